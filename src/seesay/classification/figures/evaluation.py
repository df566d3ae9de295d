"""Evaluation figures of one classifier: curves, confusion matrix, ROC, reliability, examples and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap

from seesay.classification.metrics import (
    Reliability,
    fit_temperature,
    macro_curve,
    one_vs_rest,
    reliability,
    scale_logits,
)
from seesay.core.files import atomic_directory
from seesay.core.paths import Paths
from seesay.params.results import Evaluation
from seesay.plotting.curves import draw_curves, read_history
from seesay.plotting.panels import Tile, draw_panel, from_array
from seesay.plotting.style import BLUE, GREY, ORANGE, SKY, VERMILION, new_figure
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.classification.predictions import ClassPredictions, SplitPredictions
    from seesay.images.packed import ImageSplit, PackedImages


_MAX_NAMED_CLASSES = 100
_MAX_NUMBERED_CLASSES = 40
_COLUMNS, _SIDE = 6, 160
_FEW_IMAGES = 20  # bins with fewer are drawn hollow


def draw_classification(
    folder: Path,
    predictions: ClassPredictions,
    images: PackedImages,
    paths: Paths,
    *,
    cell: str,
    settings: Evaluation,
) -> None:
    """Fill `folder`, all or nothing.

    `curves`, `confusion`, `roc` and `reliability` are `.svg` and `.webp` each. `predictions.webp` shows examples, and
    `mistakes.webp` mistakes, if there are any.
    """
    history = read_history(paths, "train_classifier", cell)
    classes = [image_class.label for image_class in images.classes]
    name = f"{cell} on {images.name}"
    with atomic_directory(folder) as new:
        draw_curves(new / "curves.svg", history, title=name)
        test = predictions.test
        draw_confusion(new / "confusion.svg", test.labels, test.predicted, classes, title=name)
        draw_roc(new / "roc.svg", test, classes, title=name)
        draw_reliability(new / "reliability.svg", predictions, title=name)
        draw_examples(new / "predictions.webp", test, images.test, classes, title=name, settings=settings)
        draw_mistakes(new / "mistakes.webp", test, images.test, classes, title=name, count=settings.panel_images)


def confusion_percent(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each true class's images (row) per predicted class (column), in percent, float64 (C, C).

    Rows of classes without images are 0.
    """
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (labels, predicted), 1)
    shares: np.ndarray = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def draw_confusion(
    path: Path, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], *, title: str
) -> None:
    """Draw the confusion matrix as a heat map with a row per true class; each row adds up to 100 percent."""
    num_classes = len(classes)
    shares = confusion_percent(labels, predicted, num_classes)
    side = min(max(0.27 * num_classes, 3.6), 13.0)
    with new_figure(path, width=side + 2.2, height=side + 1.8) as figure:
        axes = figure.subplots()
        blues = matplotlib.colormaps["Blues"]
        steps = ListedColormap([blues(0.06 + 0.94 * step / 9) for step in range(10)], under="white")
        grid = axes.imshow(shares, cmap=steps, norm=BoundaryNorm([1, *range(10, 101, 10)], 10), interpolation="none")
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
        bar = figure.colorbar(grid, ax=axes, shrink=0.6, pad=0.02, spacing="proportional", ticks=range(0, 101, 20))
        bar.set_label("percent of the true class; below 1 white")
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
    """Draw random test images with the predicted class, its probability and, for mistakes, the true class."""
    is_right = predictions.predicted == predictions.labels
    chosen = choose_examples(is_right, settings.panel_images, seed=settings.panel_seed)
    num_right = int(is_right[chosen].sum())
    heading = (
        f"{title}: {num_right} correct and {len(chosen) - num_right} wrong predictions for random test images "
        f"(seed {settings.panel_seed})"
    )
    _draw_predictions(path, chosen, predictions, split, classes, title=heading)


def draw_mistakes(
    path: Path, predictions: SplitPredictions, split: ImageSplit, classes: Sequence[str], *, title: str, count: int
) -> None:
    """Draw the wrong predictions with the highest confidence; write no file if there are none."""
    chosen = choose_mistakes(predictions, count)
    if len(chosen):
        num_wrong = int((predictions.predicted != predictions.labels).sum())
        heading = f"{title}: the {len(chosen)} most confident of {num_wrong} mistakes on test"
        _draw_predictions(path, chosen, predictions, split, classes, title=heading)


def choose_examples(is_right: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Choose `count` random examples, half correct and half wrong if there are enough of each; return their indices.

    Correct ones come first; both halves are in ascending order.
    """
    random = numpy_generator(seed, "panel")
    right, wrong = (random.permutation(np.flatnonzero(mask)) for mask in (is_right, ~is_right))
    num_right = min(len(right), max(count - count // 2, count - len(wrong)))
    return np.concatenate([np.sort(right[:num_right]), np.sort(wrong[: count - num_right])])


def choose_mistakes(predictions: SplitPredictions, count: int) -> np.ndarray:
    """Return the indices of up to `count` wrong predictions, most confident first; of equal ones the first image."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confidence = predictions.probabilities[wrong].max(axis=1)
    chosen: np.ndarray = wrong[np.argsort(-confidence, kind="stable")][:count]
    return chosen


def draw_roc(path: Path, split: SplitPredictions, classes: Sequence[str], *, title: str) -> None:
    """Draw the mean ROC curve of the classes, and those of the two classes with the largest and the smallest areas.

    Of equal areas the first class's ranks higher. Without any curve the axes hold a note.
    """
    curves = one_vs_rest(split)
    with new_figure(path, width=5.4, height=4.6) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance, area 0.500")
        if curves:
            ranked = sorted(curves, key=lambda index: -curves[index].area)
            named = [(macro_curve(list(curves.values())), f"mean of {len(curves)} classes", "black", "-", 2.0)]
            # The best and the worst are solid, the second best and the second worst dashed.
            last = len(ranked) - 1
            styles = {0: (BLUE, "-"), 1: (SKY, "--"), last - 1: (ORANGE, "--"), last: (VERMILION, "-")}
            ranks = sorted({0, min(1, last), max(0, last - 1), last})
            named += [(curves[ranked[rank]], classes[ranked[rank]], *styles[rank], 1.5) for rank in ranks]
            for curve, name, colour, line, width in named:
                axes.plot(
                    curve.false_positives,
                    curve.true_positives,
                    color=colour,
                    linestyle=line,
                    linewidth=width,
                    label=f"{name}, area {curve.area:.3f}",
                )
            handles, labels = axes.get_legend_handles_labels()
            axes.legend([*handles[1:], handles[0]], [*labels[1:], labels[0]], loc="lower right")
        else:
            axes.text(0.5, 0.5, "all images are of one class", ha="center", va="center")
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.set_xlabel("false positive rate: share of the other classes' images")
        axes.set_ylabel("true positive rate: share of the class's images")
        axes.set_title(f"{title}\nROC on test, each class against the rest")


def draw_reliability(path: Path, predictions: ClassPredictions, *, title: str) -> None:
    """Draw accuracy over confidence on test, and the number of images by confidence.

    Both are shown as trained and with the temperature fitted on val.
    """
    temperature = fit_temperature(predictions.val)
    before, after = reliability(predictions.test), reliability(scale_logits(predictions.test, temperature))
    with new_figure(path, width=5.4, height=4.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1.2, label="accuracy equals confidence")
        for result, name, colour, marker in (
            (before, "as trained", VERMILION, "o"),
            (after, f"temperature {temperature:.2f} (from val)", BLUE, "s"),
        ):
            label = f"{name}: ECE {100 * result.error:.1f} %"
            _draw_accuracy(upper, result, colour=colour, marker=marker, label=label)
            edges = 100 * np.linspace(0, 1, len(result.counts) + 1)
            lower.stairs(result.counts, edges, color=colour, linewidth=1.5)
        upper.plot([], [], "o", color=GREY, markerfacecolor="white", label=f"hollow: fewer than {_FEW_IMAGES} images")
        upper.legend(loc="best")
        upper.set(ylim=(-3, 103), xlim=(0, 100), ylabel="accuracy, percent")
        lower.set(ylabel="test images", xlabel="confidence: probability of the predicted class, percent")
        upper.set_title(f"{title}\nReliability on test, {len(before.counts)} bins")


def _draw_predictions(
    path: Path,
    chosen: np.ndarray,
    predictions: SplitPredictions,
    split: ImageSplit,
    classes: Sequence[str],
    *,
    title: str,
) -> None:
    """Draw images with the predicted class, its probability and, for mistakes, the true class."""
    probabilities, predicted = predictions.probabilities, predictions.predicted
    tiles = []
    for index in chosen:
        guess, truth = predicted[index], predictions.labels[index]
        mark, colour = ("✓", BLUE) if guess == truth else ("✗", VERMILION)
        prediction = f"{mark} {100 * probabilities[index, guess]:.0f} % {classes[guess]}"
        correction = f"true: {classes[truth]}" if guess != truth else ""
        tiles.append(Tile(from_array(np.asarray(split.images[index])), ((prediction, colour), (correction, "black"))))
    draw_panel(path, tiles, title=title, columns=_COLUMNS, side=_SIDE, text_size=15)


def _draw_accuracy(axes: Axes, result: Reliability, *, colour: str, marker: str, label: str) -> None:
    used = result.counts > 0
    x, y, few = 100 * result.confidence[used], 100 * result.accuracy[used], result.counts[used] < _FEW_IMAGES
    axes.plot(x, y, color=colour, linewidth=1.2, marker=marker, markersize=5, label=label)
    axes.plot(x[few], y[few], color=colour, linestyle="none", marker=marker, markersize=5, markerfacecolor="white")
