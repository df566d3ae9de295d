"""Figures that rank classifiers: by accuracy with intervals, and by accuracy against their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from seesay.params.classification import PRETRAINED
from seesay.plotting.numbers import magnitude
from seesay.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY, new_figure
from seesay.plotting.table import CHANCE, total_training_cost

_FROM_SCRATCH = ("from scratch", BLUE, "o")
_PRETRAINED = ("from ImageNet weights", GREEN, "^")


def draw_ranking(path: Path, rows: Sequence[Mapping[str, Any]], *, dataset: str) -> None:
    """Draw a line per classifier of `dataset`, from the best down: test top-1 with its 95 % interval.

    Classifiers with several seeds also get mean and standard deviation. Published results are hollow marks, and
    chance is a vertical line.
    """
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    ranked = sorted((row for row in of_dataset if row["cell"] != CHANCE), key=lambda row: -row["test/top1"])
    chance = next((row["test/top1"] for row in of_dataset if row["cell"] == CHANCE), None)
    with new_figure(path, width=8.4, height=0.3 * len(ranked) + 1.5) as figure:
        axes = figure.subplots()
        labelled: set[str] = set()

        def once(label: str) -> str:
            is_new = label not in labelled
            labelled.add(label)
            return label if is_new else "_" + label

        for rank, row in enumerate(ranked):
            top1 = 100 * row["test/top1"]
            low, high = (100 * row.get(key, row["test/top1"]) for key in ("test/top1_low", "test/top1_high"))
            if "source" in row:
                axes.plot(
                    *(top1, rank, "D"), color=GREY, markerfacecolor="white", markersize=6, label=once("published")
                )
            else:
                axes.plot([low, high], [rank, rank], color=SKY, linewidth=3, label=once("95 % interval"))
                is_pretrained = row["architecture"] == PRETRAINED
                name, colour, marker = _PRETRAINED if is_pretrained else _FROM_SCRATCH
                axes.plot(*(top1, rank, marker), color=colour, markersize=7, label=once(name))
            if "seeds/test/top1_mean" in row:
                axes.errorbar(
                    *(100 * row["seeds/test/top1_mean"], rank + 0.3),
                    xerr=100 * row["seeds/test/top1_std"],
                    color=ORANGE,
                    marker="s",
                    markersize=4,
                    capsize=3,
                    linestyle="none",
                    label=once("mean and standard deviation over seeds"),
                )
            axes.annotate(
                f"{top1:.1f}", (high, rank), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
            )
        if chance is not None:
            label = f"chance ({100 * chance:.1f} %)"
            axes.axvline(100 * chance, color=GREY, linestyle="--", linewidth=1.2, label=label)
        axes.set_yticks(range(len(ranked)), [row["cell"] for row in ranked])
        for tick, row in zip(axes.get_yticklabels(), ranked, strict=True):
            tick.set_color(GREY if "source" in row else "black")
        axes.set(ylim=(len(ranked) - 0.4, -0.6), xlabel="test top-1 accuracy, percent")
        highest = max((100 * row.get("test/top1_high", row["test/top1"]) for row in ranked), default=100)
        axes.set_xlim(0, min(106, 1.08 * highest + 2))
        axes.grid(visible=False, axis="y")
        figure.suptitle(f"{dataset}: classifiers by accuracy", x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.legend(loc="outside lower center", ncols=3)


_COSTS = (
    ("flops", "Against computation", "FLOPs to classify an image"),
    ("num_parameters", "Against size", "parameters"),
    ("total_training_flops", "Against training", "FLOPs to train, teacher or members included"),
)

# Offset (x, y) of a label from its point, in typographic points, and its alignment; in order of preference.
_LABEL_POSITIONS = tuple(
    (dx * reach, dy * reach, {-1: "right", 0: "center", 1: "left"}[dx], {-1: "top", 0: "center", 1: "bottom"}[dy])
    for reach in (6, 14, 24, 36, 50)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
)
_POINT_RADIUS = 6.0


def draw_costs(path: Path, rows: Sequence[Mapping[str, Any]], *, dataset: str) -> None:
    """Draw a panel per known cost, with a point per classifier of `dataset`.

    A line joins the classifiers trained from scratch that are best for their cost.
    """
    own = {row["cell"]: row["training_flops"] for row in rows if "training_flops" in row}
    ours = {row["cell"]: dict(row) for row in rows if row["cell"] != CHANCE and "source" not in row}
    for cell, row in ours.items():
        cost = total_training_cost(cell, own, ours)
        row["total_training_flops"] = cost or 0.0
    rows_of_dataset = [row for row in ours.values() if row["dataset"] == dataset]
    costs = [cost for cost in _COSTS if any(row.get(cost[0], 0) > 0 for row in rows_of_dataset)]
    with new_figure(path, width=4.8 * max(1, len(costs)), height=6.4) as figure:
        panels = figure.subplots(1, max(1, len(costs)), sharey=True, squeeze=False)[0]
        figure.suptitle(f"{dataset}: accuracy against cost", x=0.01, ha="left", fontsize=11, fontweight="bold")
        points_of_panels = []
        for axes, (key, title, label) in zip(panels, costs, strict=False):
            known = [row for row in rows_of_dataset if row.get(key, 0) > 0]
            points = [(row[key], 100 * row["test/top1"], row["cell"]) for row in known]
            _draw_panel(axes, points, [row["architecture"] == PRETRAINED for row in known])
            axes.set(title=title, xlabel=f"{label} (log scale)")
            points_of_panels.append((axes, points))
        panels[0].set_ylabel("test top-1 accuracy, percent")
        highest = max((100 * row["test/top1"] for row in rows_of_dataset), default=100.0)
        lowest = min((100 * row["test/top1"] for row in rows_of_dataset), default=0.0)
        room = 0.12 * (highest - lowest) + 2
        panels[0].set_ylim(lowest - room, highest + room)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        for axes, points in points_of_panels:
            label_points(figure, axes, points)


def frontier(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float]]:
    """Return the (cost, accuracy) of the points more accurate than all cheaper or equally cheap ones, by cost."""
    best: list[tuple[float, float]] = []
    for cost, accuracy, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    return best


def label_points(
    figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]], *, fontsize: float = 8.0
) -> list[Annotation]:
    """Label each (x, y, name) beside its point, inside the axes; labels at a distance get a thin line.

    Call it last: the figure's content and layout must not change afterwards. Each label takes the first free position
    or, without one, the position with the smallest overlap.
    """
    figure.draw_without_rendering()  # computes the layout, which determines the points' positions
    scale = figure.dpi / 72
    centres = [axes.transData.transform((x, y)) for x, y, _ in points]
    radius = _POINT_RADIUS * scale
    occupied = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in centres]
    inside = axes.get_window_extent()
    labels = []
    for number in sorted(range(len(points)), key=lambda index: -points[index][1]):
        x, y, name = points[number]
        # On white, above any lines and below the points.
        white = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
        label = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=fontsize, bbox=white)
        label.set_zorder(1.5)
        label.set_in_layout(False)
        others = [box for index, box in enumerate(occupied) if index != number]
        best, smallest = _LABEL_POSITIONS[0], float("inf")
        for position in _LABEL_POSITIONS:
            _move(label, position)
            overlap = _overlap(label.get_window_extent(), others, inside)
            if overlap < smallest:
                best, smallest = position, overlap
            if overlap == 0:
                break
        _move(label, best)
        occupied.append(label.get_window_extent())
        if max(abs(best[0]), abs(best[1])) > _LABEL_POSITIONS[0][0]:
            line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            leader = axes.annotate("", (x, y), best[:2], textcoords="offset points", arrowprops=line)
            leader.set_in_layout(False)
        labels.append(label)
    return labels


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
    axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own formats its labels as formulas


def _move(label: Annotation, position: tuple[float, float, str, str]) -> None:
    dx, dy, horizontal, vertical = position
    label.set_position((dx, dy))
    label.set(ha=horizontal, va=vertical)


def _overlap(box: Bbox, others: Sequence[Bbox], inside: Bbox) -> float:
    """Return the area, in square pixels, that `box` shares with others or has outside of `inside`."""
    shared = sum(_area(Bbox.intersection(box, other)) for other in others)
    return shared + box.width * box.height - _area(Bbox.intersection(box, inside))


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else abs(box.width * box.height)
