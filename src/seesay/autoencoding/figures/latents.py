"""Figures of an autoencoder's latents: nearest neighbours, a scatter plot by class, and interpolations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle
from sklearn.decomposition import PCA

from seesay.params.results import Evaluation
from seesay.plotting.panels import Tile, draw_panel, from_array, recompress
from seesay.plotting.style import BLUE, GREY, PALETTE, VERMILION, new_figure
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.images.packed import PackedImages

_NUM_QUERIES = 6
_SIDE = 96
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
