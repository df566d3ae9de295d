"""Figures comparing classifiers, and samples of their training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image

from seesay.classification.figures.ranking import draw_ranking
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory
from seesay.core.paths import Paths
from seesay.params.classification import Classifier
from seesay.params.results import Comparison
from seesay.plotting.curves import History, read_history
from seesay.plotting.panels import Tile, draw_panel, from_array
from seesay.plotting.style import BLUE, VERMILION, new_figure
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.images.packed import PackedImages

_OVERFITTING_COLUMNS = 3

_MAX_CLASSES = 60
_SIDE = 80  # pixels
_BLOCKS = 2


def draw_comparison(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    datasets: Mapping[str, PackedImages],
    classifiers: Mapping[str, Classifier],
    paths: Paths,
    *,
    settings: Comparison,
) -> None:
    """Fill `folder`, all or nothing.

    For each dataset there are `ranking_<dataset>.svg` and `samples_<dataset>.webp`. `overfitting.svg` is drawn if the
    overfitting study names experiments. Raises `InputError` where it names one that is not in `classifiers`.
    """
    for cell in settings.overfitting_study:
        if cell not in classifiers:
            raise InputError(f"comparison.overfitting_study: got {cell!r}: expected one of {', '.join(classifiers)}")
    histories = {cell: read_history(paths, "train_classifier", cell) for cell in settings.overfitting_study}
    with atomic_directory(folder) as new:
        for name, images in datasets.items():
            draw_ranking(new / f"ranking_{name}.svg", rows, dataset=name)
            samples = new / f"samples_{name}.webp"
            draw_samples(samples, images, per_class=settings.samples_per_class, seed=settings.samples_seed)
        if histories:
            draw_overfitting(new / "overfitting.svg", histories, classifiers)


def draw_overfitting(path: Path, histories: Mapping[str, History], settings: Mapping[str, Classifier]) -> None:
    """Draw a panel per experiment, all with the same axes: top-1 on train and val, regularisation, the final gap."""
    columns = min(_OVERFITTING_COLUMNS, len(histories))
    num_rows = -(-len(histories) // columns)
    with new_figure(path, width=max(4.4, 2.9 * columns + 0.4), height=2.5 * num_rows + 1.0) as figure:
        panels = figure.subplots(num_rows, columns, sharex=True, sharey=True, squeeze=False)
        figure.suptitle("Overfitting: top-1 accuracy per epoch", x=0.01, ha="left", fontsize=11, fontweight="bold")
        for number, (cell, history) in enumerate(histories.items()):
            axes = panels.flat[number]
            _draw_accuracies(axes, history)
            axes.set_title(f"{cell}\n", fontsize=9)
            axes.text(0, 1.02, describe_regularisation(settings[cell]), transform=axes.transAxes, fontsize=8)
            axes.set(xlabel="epoch", ylabel="top-1, percent")
            if number + columns < len(histories):  # there is a panel below
                axes.set_xlabel("")
            axes.tick_params(labelbottom=number + columns >= len(histories))
            if number % columns:
                axes.set_ylabel("")
        for axes in list(panels.flat)[len(histories) :]:
            axes.remove()
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def describe_regularisation(settings: Classifier) -> str:
    """Describe the regularisation in an experiment's settings: `dropout 0.2, flip, crop padding`."""
    dropout = settings.architecture.arguments.get("dropout")
    parts = [f"dropout {dropout:g}"] if dropout else []
    parts += [name.replace("_", " ") for name, value in settings.augmentation if value]
    return ", ".join(parts) or "no dropout, no augmentation"


def draw_samples(path: Path, images: PackedImages, *, per_class: int, seed: int) -> None:
    """Draw `per_class` training images of each class, in two columns of classes; 60 classes at most."""
    classes = images.classes[:_MAX_CLASSES]
    which = "" if len(classes) == images.num_classes else f"the first {len(classes)} of {images.num_classes} classes, "
    title = f"{images.name}: {which}{per_class} random training images of each class (seed {seed})"
    tiles = []
    for index, image_class in enumerate(classes):
        chosen = choose_samples(images.train.labels, index, per_class, seed=seed)
        tiles += [
            Tile(from_array(np.asarray(images.train.images[row])), ((image_class.label, "black"),)) for row in chosen
        ]
        tiles += [Tile(Image.new("RGB", (1, 1), "white"), ())] * (per_class - len(chosen))
    draw_panel(path, tiles, title=title, columns=_BLOCKS * per_class, side=_SIDE, text_size=11)


def choose_samples(labels: np.ndarray, class_index: int, count: int, *, seed: int) -> np.ndarray:
    """Return up to `count` random rows of a class, in ascending order."""
    rows = np.flatnonzero(labels == class_index)
    chosen: np.ndarray = np.sort(numpy_generator(seed, "samples", class_index).permutation(rows)[:count])
    return chosen


def _draw_accuracies(axes: Axes, history: History) -> None:
    last = {}
    for split, name, colour, marker in (
        ("train", "train: mean over the epoch's augmented batches", VERMILION, "o"),
        ("val", "val", BLUE, "s"),
    ):
        values = history.columns.get(f"{split}/top1", [])
        known = [(step, 100 * value) for step, value in zip(history.steps, values, strict=False) if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, marker=marker, markersize=3, linewidth=1.4, label=name)
            last[split] = known[-1][1]
    if len(last) == 2:
        gap = f"gap at the end {last['train'] - last['val']:+.0f} points"
        axes.text(0.97, 0.05, gap, transform=axes.transAxes, ha="right", va="bottom", fontsize=9)
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
