"""The overfitting study: accuracy on train and val per epoch, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from seesay.params.experiments import Classifier
from seesay.reporting.curves import History
from seesay.reporting.drawing import BLUE, VERMILION, drawn

_COLUMNS = 3


def draw_overfitting(path: Path, histories: Mapping[str, History], settings: Mapping[str, Classifier]) -> None:
    """A panel per cell, all with the same axes: top-1 on train and val, what holds overfitting back, the last gap."""
    columns = min(_COLUMNS, len(histories))
    num_rows = -(-len(histories) // columns)
    with drawn(path, width=max(4.4, 2.9 * columns + 0.4), height=2.5 * num_rows + 1.0) as figure:
        panels = figure.subplots(num_rows, columns, sharex=True, sharey=True, squeeze=False)
        figure.suptitle("Overfitting: top-1 accuracy per epoch", x=0.01, ha="left", fontsize=11, fontweight="bold")
        for number, (cell, history) in enumerate(histories.items()):
            axes = panels.flat[number]
            _draw_cell(axes, history)
            axes.set_title(f"{cell}\n", fontsize=9)
            axes.text(0, 1.02, describe_regularisation(settings[cell]), transform=axes.transAxes, fontsize=8)
            axes.set(xlabel="epoch", ylabel="top-1, percent")
            if number + columns < len(histories):  # another panel is below
                axes.set_xlabel("")
            axes.tick_params(labelbottom=number + columns >= len(histories))
            if number % columns:
                axes.set_ylabel("")
        for axes in list(panels.flat)[len(histories) :]:
            axes.remove()
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def describe_regularisation(settings: Classifier) -> str:
    """`dropout 0.2, flip, crop padding`: what of a cell's settings holds overfitting back."""
    dropout = settings.architecture.arguments.get("dropout")
    parts = [f"dropout {dropout:g}"] if dropout else []
    parts += [name.replace("_", " ") for name, value in settings.augmentation if value]
    return ", ".join(parts) or "no dropout, no augmentation"


def _draw_cell(axes: Axes, history: History) -> None:
    last = {}
    for split, name, colour, marker in (
        ("train", "train: mean of the epoch's batches, as augmented", VERMILION, "o"),
        ("val", "val", BLUE, "s"),
    ):
        values = history.columns.get(f"{split}/top1", [])
        known = [(step, 100 * value) for step, value in zip(history.steps, values, strict=False) if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, marker=marker, markersize=3, linewidth=1.4, label=name)
            last[split] = known[-1][1]
    if len(last) == 2:
        gap = f"gap {last['train'] - last['val']:+.0f} points"
        axes.text(0.97, 0.05, gap, transform=axes.transAxes, ha="right", va="bottom", fontsize=9)
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
