"""Figures that compare classifiers, and the learning-rate range test."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image, ImageDraw

from seesay.classification.figures.ranking import draw_ranking
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, write_bytes, write_text
from seesay.core.paths import Paths
from seesay.params.classification import Classifier
from seesay.params.results import Comparison
from seesay.plotting.curves import History, read_history
from seesay.plotting.panels import font, from_array, save_webp, wrap
from seesay.plotting.style import BLUE, GREEN, GREY, VERMILION, new_figure
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.images.packed import PackedImages

_OVERFITTING_COLUMNS = 3

_MAX_CLASSES = 60
_SIDE, _GAP, _MARGIN, _NAME_WIDTH, _TITLE = 64, 4, 16, 170, 20  # pixels
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
    """Draw a row of `per_class` training images for each class, in two columns of classes; 60 classes at most."""
    classes = images.classes[:_MAX_CLASSES]
    which = "" if len(classes) == images.num_classes else f"the first {len(classes)} of {images.num_classes} classes, "
    title = f"{images.name}: {which}{per_class} random training images of each class (seed {seed})"
    blocks = min(_BLOCKS, len(classes))
    num_rows = -(-len(classes) // blocks)
    block_width = _NAME_WIDTH + per_class * (_SIDE + _GAP)
    width = 2 * _MARGIN + blocks * block_width
    lines = wrap(title, width - 2 * _MARGIN, size=_TITLE)
    top = _MARGIN + len(lines) * (_TITLE + 8) + 8
    canvas = Image.new("RGB", (width, top + num_rows * (_SIDE + _GAP) + _MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + number * (_TITLE + 8)), line, fill="black", font=font(_TITLE))
    for index, image_class in enumerate(classes):
        x = _MARGIN + index // num_rows * block_width
        y = top + index % num_rows * (_SIDE + _GAP)
        place = (x + _NAME_WIDTH - 2 * _GAP, y + _SIDE // 2)
        pen.text(place, image_class.label, fill="black", font=font(_TITLE - 3), anchor="rm")
        for number, row in enumerate(choose_samples(images.train.labels, index, per_class, seed=seed)):
            picture = from_array(np.asarray(images.train.images[row])).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            canvas.paste(picture, (x + _NAME_WIDTH + number * (_SIDE + _GAP), y))
    save_webp(path, canvas)


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


if TYPE_CHECKING:
    from seesay.classification.rate_range import RangeTest, RateRange

_NUM_ROWS = 15
_COLOURS = (GREEN, VERMILION)


def report_rate_range(paths: Paths, cell: str, test: RangeTest) -> str:
    """Write `.work/learning_rates/<cell>.csv` and `.svg`; return a summary to print: some rows, then the rates."""
    folder = paths.scratch / "learning_rates"
    table, figure = folder / f"{cell}.csv", folder / f"{cell}.svg"
    write_text(table, _csv(test.result))
    with tempfile.TemporaryDirectory() as scratch:
        new_figure = Path(scratch) / figure.name
        draw_rate_range(new_figure, test.result, peak=test.peak, title=f"{cell}: learning-rate range test")
        write_bytes(figure, new_figure.read_bytes())
    files = " and ".join(str(path.relative_to(paths.root)) for path in (table, figure))
    return "\n".join([*_summarise(cell, test), f"written: {files}"])


def draw_rate_range(path: Path, result: RateRange, *, peak: float, title: str) -> None:
    """Draw each step's loss and the smoothed loss over the rate.

    The suggested rates are marked, and so is `peak`, the rate in params.yaml, if it lies within the range.
    """
    with new_figure(path, width=6.4, height=4.2) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.plot(
            result.rates, result.losses, color=GREY, marker=".", markersize=4, linestyle="none", label="loss of a step"
        )
        axes.plot(result.rates, result.smoothed, color=BLUE, linewidth=1.8, label="smoothed")
        marks = [
            *((r, colour, "--", name) for (name, r), colour in zip(result.suggested.items(), _COLOURS, strict=False)),
            (result.lowest_at, GREY, ":", "loss is lowest"),
            (peak, "black", "-.", "in params.yaml"),
        ]
        for rate, colour, style, name in marks:
            if result.rates[0] <= rate <= result.rates[-1]:
                axes.axvline(rate, color=colour, linestyle=style, linewidth=1.3, label=f"{name}: {rate:.2g}")
        lowest = min(result.smoothed)
        highest = max(result.smoothed[: result.smoothed.index(lowest) + 1])
        room = max(highest - lowest, 0.1 * abs(lowest))
        axes.set_ylim(lowest - 0.3 * room, highest + 0.6 * room)  # cuts off a loss that diverges
        axes.set(xlabel="learning rate (log scale)", ylabel="training loss")
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own formats its labels as formulas
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _csv(result: RateRange) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "learning_rate", "loss", "smoothed_loss"])
    rows = zip(result.rates, result.losses, result.smoothed, strict=True)
    writer.writerows([step, *row] for step, row in enumerate(rows, start=1))
    return text.getvalue()


def _summarise(cell: str, test: RangeTest) -> list[str]:
    result, side = test.result, test.image_size
    num_steps = len(result.rates)
    lines = [
        f"{cell}: {num_steps} steps of {test.images_per_step} training images of {test.dataset}, {side}x{side}",
        f"{'learning rate':>13}  {'loss':>9}  {'smoothed':>9}",
    ]
    last = num_steps - 1
    steps = sorted({round(row * last / (_NUM_ROWS - 1)) for row in range(_NUM_ROWS)})
    lines += [f"{result.rates[i]:13.3g}  {result.losses[i]:9.4g}  {result.smoothed[i]:9.4g}" for i in steps]
    if result.stopped is not None:
        lines.append(f"stopped early: {result.stopped}")
    first, lowest = result.smoothed[0], min(result.smoothed)
    if result.steepest_at is None:
        return [*lines, "no suggested rate: the loss never fell; start lower (--low), or check the experiment"]
    if result.is_flat:
        return [*lines, f"no suggested rate: the loss is flat (from {first:.4g} to {lowest:.4g}: less than 1 % or less "
                "than it varies from step to step); try a higher --high, or check the experiment"]  # fmt: skip
    suggested = " or ".join(f"{rate:.2g} ({reason})" for reason, rate in result.suggested.items())
    lines.append(f"suggested peak rate: {suggested}; params.yaml has {test.peak:g}")
    if len(result.suggested) == 1:
        lines.append(
            f"a tenth of {result.lowest_at:.2g}, where the loss is lowest, is below the first rate: try a lower --low"
        )
    if result.falls_to_the_end:
        lines.append("the loss falls up to the last rate: try a higher --high")
    return lines
