"""Which classifier is worth its cost? Accuracy against computation and against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from seesay.files import atomic_directory
from seesay.reporting.drawing import PALETTE, direct_label, drawn
from seesay.reporting.numbers import magnitude

_MARKERS = "osD^vP"
_COSTS = (
    ("flops", "Accuracy against computation", "FLOPs per image"),
    ("num_parameters", "Accuracy against size", "parameters"),
)


def draw_comparison(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Fills `folder` with `accuracy_cost.svg`: a point per classifier, dashed lines for chance."""
    with atomic_directory(folder) as new, drawn(new / "accuracy_cost.svg", width=9.0, height=3.8) as figure:
        for axes, (key, title, label) in zip(figure.subplots(1, 2, sharey=True), _COSTS, strict=True):
            _draw_cost(axes, rows, key=key)
            axes.set_title(title)
            axes.set_xlabel(f"{label} (log scale)")
        figure.axes[0].set_ylabel("test top-1 accuracy, percent")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)) or 1)


def _draw_cost(axes: Axes, rows: Sequence[Mapping[str, Any]], *, key: str) -> None:
    axes.set_xscale("log")
    for number, dataset in enumerate(_datasets(rows)):
        colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
        of_dataset = [row for row in rows if row["dataset"] == dataset]
        points = sorted((row[key], 100 * row["test/top1"], row["cell"]) for row in of_dataset if key in row)
        points = [point for point in points if point[2] != "chance"]
        if points:
            x, y, _ = zip(*points, strict=True)
            axes.plot(x, y, color=colour, marker=marker, markersize=8, linestyle="none", label=dataset)
        for row in of_dataset:
            if row["cell"] == "chance":
                chance = 100 * row["test/top1"]
                label = f"chance, {dataset} ({chance:.1f} %)"
                axes.axhline(chance, color=colour, linestyle="--", linewidth=1.2, label=label)
        for index, (x_value, y_value, cell) in enumerate(points):
            is_close = index > 0 and abs(y_value - points[index - 1][1]) < 4
            direct_label(axes, cell, x_value, y_value, below=is_close and y_value < points[index - 1][1])
    axes.margins(x=0.25)
    axes.set_ylim(0, 105)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: magnitude(value))
    axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own writes its labels as formulas


def _datasets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["dataset"] for row in rows))
