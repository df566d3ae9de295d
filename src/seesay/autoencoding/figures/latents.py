"""What do an autoencoder's latents say? Neighbours, a picture of them by class, and the way from image to image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle
from sklearn.decomposition import PCA

from seesay.params.results import Evaluation
from seesay.plotting.panels import Tile, draw_panel, from_array, make_small
from seesay.plotting.style import BLUE, GREY, PALETTE, VERMILION, drawn
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.images.packed import PackedImages

_NUM_QUERIES = 6
_SIDE = 96
NUM_PAIRS, NUM_STEPS = 4, 7


def draw_neighbours(
    path: Path,
    neighbours: np.ndarray,
    images: PackedImages,
    *,
    cell: str,
    settings: Evaluation,
    count: int = _NUM_QUERIES,
) -> None:
    """Test images drawn at random and their nearest training images, a row of each; `neighbours` is (n, k)."""
    chosen = np.sort(numpy_generator(settings.panel_seed, "queries").permutation(len(neighbours))[:count])
    tiles: list[Tile] = []
    for row in chosen:
        label = images.test.labels[row]
        tiles.append(Tile(from_array(np.asarray(images.test.images[row])), ((images.classes[label].label, "black"),)))
        for near in neighbours[row]:
            found = images.train.labels[near]
            colour = BLUE if found == label else VERMILION
            mark = "✓ " if found == label else "✗ "
            words = mark + images.classes[found].label
            tiles.append(Tile(from_array(np.asarray(images.train.images[near])), ((words, colour),)))
    title = (
        f"{cell}: test images drawn at random (seed {settings.panel_seed}), and in each row the training images whose "
        "standardised latents have the highest cosine with theirs"
    )
    draw_panel(path, tiles, title=title, columns=1 + neighbours.shape[1], side=_SIDE, text_size=13)
    make_small(path)


def draw_interpolations(path: Path, strips: np.ndarray, pairs: np.ndarray, images: PackedImages, *, cell: str) -> None:
    """Each pair's first test image, what is drawn on the way (`strips`, uint8 (n, steps, S, S, 3)), its second."""
    tiles: list[Tile] = []
    for pair, strip in zip(pairs, strips, strict=True):
        ends = [
            Tile(
                from_array(np.asarray(images.test.images[row])),
                ((images.classes[images.test.labels[row]].label, "black"),),
            )
            for row in pair
        ]
        shares = np.linspace(0, 100, len(strip))
        between = [Tile(from_array(one), ((f"{share:.0f} %", GREY),)) for one, share in zip(strip, shares, strict=True)]
        tiles += [ends[0], *between, ends[1]]
    title = f"{cell}: what is drawn of latents on the straight way from one test image's to another's"
    draw_panel(path, tiles, title=title, columns=2 + strips.shape[1], side=_SIDE, text_size=13)
    make_small(path)


def choose_pairs(labels: np.ndarray, settings: Evaluation) -> np.ndarray:
    """int (n, 2): images at random, none in two pairs, each pair of two classes; fewer where there are not enough."""
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
    """The test images' standardised latents along their two strongest principal components, each class in a colour:
    every image, and beside it the classes' means alone, which lie much closer together."""
    labels = np.asarray(images.test.labels)
    components = PCA(2, svd_solver="covariance_eigh").fit(latents)
    places = components.transform(latents)
    shares = 100 * components.explained_variance_ratio_
    present = np.unique(labels)
    means = np.stack([places[labels == index].mean(axis=0) for index in present])
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(images.classes))]
    with drawn(path, width=13.0, height=5.6) as figure:
        every, of_classes = figure.subplots(1, 2)
        # Points as pixels: thousands of shapes would weigh more than the rest of the page.
        every.scatter(places[:, 0], places[:, 1], s=9, c=[colours[label] for label in labels], alpha=0.6, linewidths=0,
                      rasterized=True)  # fmt: skip
        corner, opposite = means.min(axis=0), means.max(axis=0)
        every.add_patch(Rectangle(tuple(corner), *(opposite - corner), fill=False, edgecolor="black", linewidth=1))
        every.set_title(f"{cell}: latents of all test images")
        for index, (x, y) in zip(present, means, strict=True):
            of_classes.plot(x, y, "o", color=colours[index], markersize=4)
            of_classes.annotate(images.classes[index].label, (x, y), xytext=(3, 3), textcoords="offset points",
                                fontsize=7, color=colours[index])  # fmt: skip
        of_classes.margins(0.12)
        of_classes.set_title("each class's mean (the box on the left)")
        for axes in (every, of_classes):
            axes.set_xlabel(f"first component ({shares[0]:.1f} % of the variance)")
            axes.set_ylabel(f"second component ({shares[1]:.1f} %)")
