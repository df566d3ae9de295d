"""Figures of autoencoders: reconstructions and latents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle
from sklearn.decomposition import PCA

from seesay.core.paths import Paths
from seesay.params.results import Evaluation
from seesay.plotting.curves import draw_curves, read_history
from seesay.plotting.panels import Tile, draw_panel, from_array, recompress
from seesay.plotting.style import BLUE, GREY, PALETTE, VERMILION, new_figure
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.autoencoding.evaluate import Completion
    from seesay.autoencoding.reconstruct import Reconstructions
    from seesay.images.packed import ImageSplit

_ERROR_GAIN = 4
_COLUMNS = 6
_SIDE = 96
_HIDDEN_COLOUR = 128


def draw_reconstructions(
    folder: Path,
    reconstructions: Reconstructions,
    completion: Completion | None,
    split: ImageSplit,
    paths: Paths,
    *,
    cell: str,
    settings: Evaluation,
) -> None:
    """Fill `folder` with `curves.svg`, `reconstructions.webp` and, with a `completion`, `completions.webp`."""
    history = read_history(paths, "train_autoencoder", cell)
    chosen = choose_at_random(len(split.images), count=settings.panel_images, seed=settings.panel_seed)
    inputs, subject = np.asarray(split.images[chosen]), f"randomly chosen test images (seed {settings.panel_seed})"
    draw_curves(folder / "curves.svg", history, title=cell)
    outputs = np.asarray(reconstructions.images[chosen])
    rows = {
        "input": inputs,
        "output": outputs,
        f"error ×{_ERROR_GAIN}": absolute_error(inputs, outputs, gain=_ERROR_GAIN),
    }
    draw_rows(folder / "reconstructions.webp", rows, title=f"{cell}: {subject}")
    if completion is not None:
        hidden = completion.hidden[chosen]
        completed, inpainted = (
            np.where(hidden[..., None], one.images[chosen], inputs)
            for one in (completion.completed, completion.inpainted)
        )
        rows = {
            "image": inputs,
            "masked": without_hidden(inputs, hidden),
            "completed": completed,
            "inpainted": inpainted,
        }
        title = f"{cell}: {subject}; hidden patches completed by the autoencoder, and by OpenCV's inpainting"
        draw_rows(folder / "completions.webp", rows, title=title)


def choose_at_random(num_images: int, *, count: int, seed: int) -> np.ndarray:
    """Choose `count` random images, or all where there are fewer, in the split's order."""
    random = numpy_generator(seed, "panel")
    chosen: np.ndarray = np.sort(random.permutation(num_images)[:count])
    return chosen


def without_hidden(images: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return `images` (n, S, S, 3) with grey where `hidden` (n, S, S)."""
    visible: np.ndarray = np.where(hidden[..., None], np.uint8(_HIDDEN_COLOUR), images)
    return visible


def draw_rows(path: Path, rows: Mapping[str, np.ndarray], *, title: str) -> None:
    """Draw `rows`, images uint8 (n, S, S, 3) by name: for every group of columns a row of each name."""
    first = next(iter(rows.values()))
    columns = min(_COLUMNS, len(first))
    tiles: list[Tile] = []
    names: list[str] = []
    for start in range(0, len(first), columns):
        for name, pictures in rows.items():
            group = pictures[start : start + columns]
            tiles += [Tile(from_array(picture), ()) for picture in group]
            tiles += [Tile(from_array(np.full_like(first[0], 255)), ())] * (columns - len(group))
            names.append(name)
    draw_panel(path, tiles, title=title, columns=columns, side=_SIDE, row_names=names)
    recompress(path)


def absolute_error(inputs: np.ndarray, outputs: np.ndarray, *, gain: int) -> np.ndarray:
    """Return |output - input| times `gain`, uint8, clipped at white; black is a perfect pixel."""
    difference = np.abs(inputs.astype(np.int32) - outputs.astype(np.int32))
    brightened: np.ndarray = np.minimum(gain * difference, 255).astype(np.uint8)
    return brightened


if TYPE_CHECKING:
    from seesay.images.packed import PackedImages

_NUM_QUERIES = 6
NUM_PAIRS = 4
NUM_STEPS = 7


def draw_neighbours(
    path: Path,
    neighbours: np.ndarray,
    images: PackedImages,
    *,
    cell: str,
    settings: Evaluation,
    count: int = _NUM_QUERIES,
) -> None:
    """Draw a row for each of `count` random test images: the image and its nearest training images.

    `neighbours` is (n, k).
    """
    chosen = np.sort(numpy_generator(settings.panel_seed, "queries").permutation(len(neighbours))[:count])
    tiles: list[Tile] = []
    for row in chosen:
        label = images.test.labels[row]
        tiles.append(Tile(from_array(np.asarray(images.test.images[row])), ((images.classes[label].label, "black"),)))
        for neighbour in neighbours[row]:
            neighbour_label = images.train.labels[neighbour]
            colour = BLUE if neighbour_label == label else VERMILION
            mark = "✓ " if neighbour_label == label else "✗ "
            text = mark + images.classes[neighbour_label].label
            tiles.append(Tile(from_array(np.asarray(images.train.images[neighbour])), ((text, colour),)))
    title = (
        f"{cell}: randomly chosen test images (seed {settings.panel_seed}), each followed by its nearest training "
        "images (highest cosine similarity of standardised latents)"
    )
    draw_panel(path, tiles, title=title, columns=1 + neighbours.shape[1], side=_SIDE, text_size=13)
    recompress(path)


def draw_interpolations(path: Path, strips: np.ndarray, pairs: np.ndarray, images: PackedImages, *, cell: str) -> None:
    """Draw a row for each pair: its first test image, the interpolation, its second test image.

    `strips` are the interpolations, uint8 (n, steps, S, S, 3); `pairs` is int (n, 2).
    """
    tiles: list[Tile] = []
    for pair, strip in zip(pairs, strips, strict=True):
        ends = [
            Tile(
                from_array(np.asarray(images.test.images[row])),
                ((images.classes[images.test.labels[row]].label, "black"),),
            )
            for row in pair
        ]
        percents = np.linspace(0, 100, len(strip))
        between = [
            Tile(from_array(one), ((f"{percent:.0f} %", GREY),)) for one, percent in zip(strip, percents, strict=True)
        ]
        tiles += [ends[0], *between, ends[1]]
    title = f"{cell}: linear interpolation between the latents of two test images, decoded"
    draw_panel(path, tiles, title=title, columns=2 + strips.shape[1], side=_SIDE, text_size=13)
    recompress(path)


def choose_pairs(labels: np.ndarray, settings: Evaluation) -> np.ndarray:
    """Choose random pairs of images of two classes, no image twice: int (n, 2).

    There are NUM_PAIRS of them, or fewer where there are not enough images.
    """
    order = numpy_generator(settings.panel_seed, "pairs").permutation(len(labels))
    firsts, rest = order[:NUM_PAIRS], list(order[NUM_PAIRS:])
    pairs: list[tuple[int, int]] = []
    for first in firsts:
        other = next((row for row in rest if labels[row] != labels[first]), None)
        if other is not None:
            rest.remove(other)
            pairs.append((int(first), int(other)))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def draw_latents(path: Path, latents: np.ndarray, images: PackedImages, *, cell: str) -> None:
    """Draw the test images' standardised latents along their first two principal components, coloured by class.

    The left panel shows every image; the right one the class means alone, which lie much closer together.
    """
    labels = np.asarray(images.test.labels)
    components = PCA(2, svd_solver="covariance_eigh").fit(latents)
    points = components.transform(latents)
    variance_percent = 100 * components.explained_variance_ratio_
    present = np.unique(labels)
    means = np.stack([points[labels == index].mean(axis=0) for index in present])
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(images.classes))]
    with new_figure(path, width=13.0, height=5.6) as figure:
        all_images, class_means = figure.subplots(1, 2)
        # Rasterised: thousands of vector shapes would be larger than the rest of the page.
        all_images.scatter(
            *points.T, s=9, c=[colours[label] for label in labels], alpha=0.6, linewidths=0, rasterized=True
        )
        corner, opposite = means.min(axis=0), means.max(axis=0)
        all_images.add_patch(Rectangle(tuple(corner), *(opposite - corner), fill=False, edgecolor="black", linewidth=1))
        all_images.set_title(f"{cell}: latents of all test images")
        for index, (x, y) in zip(present, means, strict=True):
            class_means.plot(x, y, "o", color=colours[index], markersize=4)
            class_means.annotate(images.classes[index].label, (x, y), xytext=(3, 3), textcoords="offset points",
                                fontsize=7, color=colours[index])  # fmt: skip
        class_means.margins(0.12)
        class_means.set_title("class means (the box on the left)")
        for axes in (all_images, class_means):
            axes.set_xlabel(f"first component ({variance_percent[0]:.1f} % of the variance)")
            axes.set_ylabel(f"second component ({variance_percent[1]:.1f} %)")
