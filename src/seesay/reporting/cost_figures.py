"""Which classifier is worth its cost? Accuracy against computation, size and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from seesay.params.experiments import PRETRAINED
from seesay.reporting.costs import cost_from_nothing
from seesay.reporting.drawing import BLUE, GREEN, GREY, drawn
from seesay.reporting.labels import label_points
from seesay.reporting.numbers import magnitude
from seesay.reporting.results import CHANCE

_COSTS = (
    ("flops", "Against computation", "FLOPs to classify an image"),
    ("num_parameters", "Against size", "parameters"),
    ("training_from_nothing", "Against training", "FLOPs to train, teacher or members included"),
)


def draw_costs(path: Path, rows: Sequence[Mapping[str, Any]], *, dataset: str) -> None:
    """A panel per cost that is known, a point per classifier of `dataset`; a line joins those trained from scratch
    that no cheaper one equals."""
    own = {row["cell"]: row["training_flops"] for row in rows if "training_flops" in row}
    ours = {row["cell"]: dict(row) for row in rows if row["cell"] != CHANCE and "source" not in row}
    for cell, row in ours.items():
        cost = cost_from_nothing(cell, own, ours)
        row["training_from_nothing"] = cost or 0.0
    shown = [row for row in ours.values() if row["dataset"] == dataset]
    costs = [cost for cost in _COSTS if any(row.get(cost[0], 0) > 0 for row in shown)]
    with drawn(path, width=4.8 * max(1, len(costs)), height=6.4) as figure:
        panels = figure.subplots(1, max(1, len(costs)), sharey=True, squeeze=False)[0]
        figure.suptitle(f"{dataset}: accuracy against cost", x=0.01, ha="left", fontsize=11, fontweight="bold")
        drawn_points = []
        for axes, (key, title, label) in zip(panels, costs, strict=False):
            known = [row for row in shown if row.get(key, 0) > 0]
            points = [(row[key], 100 * row["test/top1"], row["cell"]) for row in known]
            _draw_panel(axes, points, [row["architecture"] == PRETRAINED for row in known])
            axes.set(title=title, xlabel=f"{label} (log scale)")
            drawn_points.append((axes, points))
        panels[0].set_ylabel("test top-1 accuracy, percent")
        highest = max((100 * row["test/top1"] for row in shown), default=100.0)
        lowest = min((100 * row["test/top1"] for row in shown), default=0.0)
        room = 0.12 * (highest - lowest) + 2
        panels[0].set_ylim(lowest - room, highest + room)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        for axes, points in drawn_points:
            label_points(figure, axes, points)


def frontier(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) of the points that no cheaper or equally cheap one equals in accuracy, by cost."""
    found: list[tuple[float, float]] = []
    for cost, accuracy, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or accuracy > found[-1][1]:
            found.append((cost, accuracy))
    return found


def _draw_panel(axes: Axes, points: Sequence[tuple[float, float, str]], is_pretrained: Sequence[bool]) -> None:
    axes.set_xscale("log")
    best = frontier([point for point, pretrained in zip(points, is_pretrained, strict=True) if not pretrained])
    if best:
        name = "best from scratch for its cost"
        axes.plot(*zip(*best, strict=True), color=GREY, linestyle="--", linewidth=1, label=name, zorder=1)
    for kind, name, colour, marker in (
        (False, "from scratch", BLUE, "o"),
        (True, "from ImageNet weights, whose own cost is not counted", GREEN, "^"),
    ):
        chosen = [point[:2] for point, pretrained in zip(points, is_pretrained, strict=True) if pretrained == kind]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.plot(x, y, color=colour, marker=marker, markersize=7, linestyle="none", label=name)
    axes.margins(x=0.3)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: magnitude(value))
    axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own writes its labels as formulas
