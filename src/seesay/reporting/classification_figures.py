"""What does one classifier get right and wrong? Curves, confusion matrix and example predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seesay.files import atomic_directory
from seesay.params.results import Evaluation
from seesay.paths import Paths
from seesay.reporting.curves import draw_curves, read_history
from seesay.reporting.drawing import BLUE, VERMILION, drawn
from seesay.reporting.panels import Tile, draw_panel, from_array
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.data.packed_images import ImageSplit, PackedImages
    from seesay.evaluation.class_predictions import ClassPredictions, SplitPredictions

_MAX_NAMED_CLASSES = 100
_MAX_NUMBERED_CLASSES = 40


def draw_classification(
    folder: Path,
    predictions: ClassPredictions,
    images: PackedImages,
    paths: Paths,
    *,
    cell: str,
    settings: Evaluation,
) -> None:
    """Fills `folder` with `curves.svg`, `confusion.svg` and `predictions.webp`, all or nothing."""
    history = read_history(paths.table("train_classifier", cell, "history"))
    classes = [image_class.label for image_class in images.classes]
    name = f"{cell} on {images.name}"
    with atomic_directory(folder) as new:
        draw_curves(new / "curves.svg", history, title=name)
        test = predictions.test
        draw_confusion(new / "confusion.svg", test.labels, test.predicted, classes, title=name)
        draw_examples(new / "predictions.webp", test, images.test, classes, title=name, settings=settings)


def confusion_percent(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(true, predicted) shares of each true class's images in percent, float64 (C, C); a class without images is 0."""
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (labels, predicted), 1)
    shares: np.ndarray = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def draw_confusion(
    path: Path, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], *, title: str
) -> None:
    """The confusion matrix as a heat map with a row per true class, each row adding up to 100 percent."""
    num_classes = len(classes)
    shares = confusion_percent(labels, predicted, num_classes)
    side = min(max(0.27 * num_classes, 3.6), 13.0)
    with drawn(path, width=side + 2.2, height=side + 1.8) as figure:
        axes = figure.subplots()
        grid = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="none")
        axes.grid(visible=False)
        axes.set_title(f"{title}\nConfusion matrix on test")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if num_classes <= _MAX_NAMED_CLASSES:
            size = 8 if num_classes <= _MAX_NUMBERED_CLASSES else 5
            axes.set_xticks(range(num_classes), classes, rotation=90, fontsize=size)
            axes.set_yticks(range(num_classes), classes, fontsize=size)
        if num_classes <= _MAX_NUMBERED_CLASSES:
            for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
                share = shares[row, column]
                colour = "white" if share > 55 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=colour)
        bar = figure.colorbar(grid, ax=axes, shrink=0.6, pad=0.02)
        bar.set_label("percent of the true class")
        bar.outline.set_visible(False)


def draw_examples(
    path: Path,
    predictions: SplitPredictions,
    split: ImageSplit,
    classes: Sequence[str],
    *,
    title: str,
    settings: Evaluation,
) -> None:
    """Test images with the class predicted, its probability and, where it is wrong, the true class."""
    probabilities, predicted = predictions.probabilities, predictions.predicted
    chosen = choose_examples(predicted == predictions.labels, settings.panel_images, seed=settings.panel_seed)
    tiles = []
    for index in chosen:
        guess, truth = predicted[index], predictions.labels[index]
        mark, colour = ("✓", BLUE) if guess == truth else ("✗", VERMILION)
        said = f"{mark} {classes[guess]} {100 * probabilities[index, guess]:.0f} %"
        below = f"true: {classes[truth]}" if guess != truth else ""
        tiles.append(Tile(from_array(np.asarray(split.images[index])), ((said, colour), (below, "black"))))
    num_right = int((predicted[chosen] == predictions.labels[chosen]).sum())
    heading = (
        f"{title}: {num_right} test images it gets right and {len(chosen) - num_right} it gets wrong, "
        f"drawn at random (seed {settings.panel_seed})"
    )
    draw_panel(path, tiles, title=heading, columns=4, side=256)


def choose_examples(is_right: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Indices of `count` examples at random, half right and half wrong as far as there are; the right ones first."""
    random = numpy_generator(seed, "panel")
    right, wrong = (random.permutation(np.flatnonzero(mask)) for mask in (is_right, ~is_right))
    num_right = min(len(right), max(count - count // 2, count - len(wrong)))
    return np.concatenate([np.sort(right[:num_right]), np.sort(wrong[: count - num_right])])
