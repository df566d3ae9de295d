"""Figures of autoencoders: reconstructions and latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from sklearn.decomposition import PCA

from seesay.arrays import one_blas_thread
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


_MAX_DEVIATION = 3.0
_NUM_COLOURED = len(PALETTE)
_MAX_LABELS = 60
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_latents(path: Path, latents: np.ndarray, images: PackedImages, *, cell: str) -> None:
    """Draw the test images' standardised latents along their first two principal components.

    The left panel shows every image but the outermost two percent, with the classes whose means lie farthest apart in
    colour. The right one shows the class means alone, which lie much closer together, with names beside the panel.
    Latents are clipped to three standard deviations first: otherwise a few outliers decide the components.
    """
    labels = np.asarray(images.test.labels)
    points, shares = principal_plane(latents)
    variance_percent = 100 * shares
    present = np.unique(labels)
    means = np.stack([points[labels == index].mean(axis=0) for index in present])
    outermost = np.argsort(-np.linalg.norm(means - means.mean(axis=0), axis=1), kind="stable")
    names = [images.classes[index].label for index in present]
    with new_figure(path, width=13.0, height=5.6) as figure:
        all_images, class_means = figure.subplots(1, 2)
        coloured = dict(zip(outermost[:_NUM_COLOURED], zip(PALETTE, _MARKERS, strict=True), strict=False))
        others = ~np.isin(labels, [present[index] for index in coloured])
        # Rasterised: thousands of vector shapes would be larger than the rest of the page.
        all_images.scatter(*points[others].T, s=7, c="#B8BEC4", linewidths=0, rasterized=True, label="other classes")
        for index, (colour, marker) in coloured.items():
            of_class = points[labels == present[index]]
            all_images.scatter(
                *of_class.T, s=16, c=colour, marker=marker, alpha=0.8, linewidths=0, rasterized=True, label=names[index]
            )
        low, high = np.percentile(points, [1, 99], axis=0)
        margin = 0.05 * np.maximum(high - low, 1e-6)
        all_images.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        all_images.legend(loc="upper left", fontsize=7, markerscale=1.2, frameon=True, framealpha=0.8)
        all_images.set_title(f"{cell}: latents of test images")
        for index, mean in enumerate(means):
            colour, marker = coloured.get(index, (GREY, "o"))
            class_means.plot(*mean, marker, color=colour, markersize=5)
        _name_beside(class_means, {names[index]: means[index] for index in outermost[:_MAX_LABELS]})
        class_means.set_title("means of the classes", loc="center")
        for axes in (all_images, class_means):
            axes.set_xlabel(f"first component ({variance_percent[0]:.1f} % of the variance)")
        all_images.set_ylabel(f"second component ({variance_percent[1]:.1f} %)")


@one_blas_thread()
def principal_plane(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised `latents` (n, d) along their first two principal components, (n, 2), and the components'
    shares of the variance; both of values clipped to three standard deviations."""
    clipped = np.clip(latents, -_MAX_DEVIATION, _MAX_DEVIATION)
    components = PCA(2, svd_solver="covariance_eigh").fit(clipped)
    return components.transform(clipped), components.explained_variance_ratio_


def _name_beside(axes: Axes, points: Mapping[str, np.ndarray]) -> None:
    """Write names to the left and right of a plot, at their points' height where there is room, joined by lines."""
    middle = float(np.median([x for x, _ in points.values()]))
    axes.margins(0.08)
    axes.grid(visible=False)
    axes.set_yticklabels([])
    axes.tick_params(left=False)
    bottom, top = axes.get_ylim()
    for side, is_left in ((-0.02, True), (1.02, False)):
        named = sorted((item for item in points.items() if (item[1][0] <= middle) == is_left), key=lambda i: i[1][1])
        wanted = [(point[1] - bottom) / (top - bottom) for _, point in named]
        for (name, point), height in zip(named, spread(wanted), strict=True):
            axes.annotate(
                name, tuple(point), xytext=(side, height), textcoords="axes fraction", fontsize=7,
                ha="right" if is_left else "left", va="center",
                arrowprops={"arrowstyle": "-", "color": "#C4C9CE", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3},
            )  # fmt: skip


def spread(heights: Sequence[float], *, gap: float = 0.034) -> list[float]:
    """Move ascending heights in [0, 1] apart by at least `gap`, or as far as there is room."""
    gap = min(gap, 1 / max(len(heights), 1))
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap) if moved else height)
    highest = 1.0
    for number in reversed(range(len(moved))):
        moved[number] = min(moved[number], highest)
        highest = moved[number] - gap
    return moved
