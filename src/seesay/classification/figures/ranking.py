"""Figures that rank classifiers: by accuracy with intervals, and by accuracy against their cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter

from seesay.core.files import atomic_directory
from seesay.params.classification import PRETRAINED
from seesay.plotting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure
from seesay.plotting.table import CHANCE, magnitude, total_training_cost

_FROM_SCRATCH = ("from scratch", BLUE, "o")
_PRETRAINED = ("from ImageNet weights, whose own cost is not counted", GREEN, "^")
_ELSEWHERE = ((ORANGE, "D"), (PURPLE, "s"), (SKY, "v"))
_SIDE = 5.2  # inches


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


_MIN_CLASSIFIERS = 3
_LINE_NAME = "best from scratch for its cost"

# Offset (x, y) of a label from its point, in typographic points, and its alignment; in order of preference.
_LABEL_POSITIONS = tuple(
    (dx * reach, dy * reach, {-1: "right", 0: "center", 1: "left"}[dx], {-1: "top", 0: "center", 1: "bottom"}[dy])
    for reach in (6, 14, 24, 36, 50)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
)
_POINT_RADIUS = 6.0
_MISTAKABLE = 1e-3  # counts as that much overlap, in square pixels: a label nearer to another point than to its own


class Group(NamedTuple):
    """Rows drawn alike: their name in the legend, their colour and their marker, which may be hollow."""

    name: str
    colour: str
    marker: str
    is_hollow: bool
    rows: Sequence[Mapping[str, Any]]


Cost = Callable[[Mapping[str, Any]], float | None]


def draw_costs(
    folder: Path, rows: Sequence[Mapping[str, Any]], *, core_seconds: Mapping[str, float]
) -> list[tuple[str, str]]:
    """Fill `folder`, all or nothing, and return the name and the description of each figure.

    For each dataset with three classifiers or more, `minutes_<dataset>.svg` shows test top-1 over the core-minutes of
    training, and `parameters_<dataset>.svg` over size. A published result is a hollow mark where its cost is known and
    a horizontal line elsewhere. `published.svg` shows published results on other tasks by size, on axes of their own.
    `core_seconds` are of training one network without its teacher or members, by experiment.
    """
    ours = {row["cell"]: row for row in rows if row["cell"] != CHANCE and "source" not in row}
    datasets = Counter(row["dataset"] for row in ours.values())
    published = [row for row in rows if "source" in row]
    figures = []

    def minutes(row: Mapping[str, Any]) -> float | None:
        seconds = None if "source" in row else total_training_cost(row["cell"], core_seconds, ours)
        return seconds / 60 if seconds else None

    def size(row: Mapping[str, Any]) -> float | None:
        return row.get("num_parameters")

    with atomic_directory(folder) as new:
        for dataset in (name for name, count in datasets.items() if count >= _MIN_CLASSIFIERS):
            of_dataset = [row for row in ours.values() if row["dataset"] == dataset]
            scratch, pretrained = (
                Group(*kind, False, [row for row in of_dataset if (row["architecture"] == PRETRAINED) == is_pretrained])
                for kind, is_pretrained in ((_FROM_SCRATCH, False), (_PRETRAINED, True))
            )
            others = Group("published by others", GREY, "D", True, [x for x in published if x["dataset"] == dataset])
            for cost, name, against, label in (
                (minutes, "minutes", "training", "core-minutes to train, teacher or members included"),
                (size, "parameters", "size", "parameters"),
            ):
                if any(cost(row) for row in of_dataset):
                    title = f"{dataset}: accuracy against {against}"
                    _draw_costs(new / f"{name}_{dataset}.svg", (scratch, pretrained, others), cost, title, label)
                    figures.append((f"{name}_{dataset}.svg", f"Test top-1 on {dataset} against {label}"))
        elsewhere = [row for row in published if row["dataset"] not in datasets and size(row)]
        if elsewhere:
            groups = []
            for number, dataset in enumerate(dict.fromkeys(row["dataset"] for row in elsewhere)):
                chosen = [row for row in elsewhere if row["dataset"] == dataset]
                sources = ", ".join(dict.fromkeys(row["source"] for row in chosen))
                colour, marker = _ELSEWHERE[number % len(_ELSEWHERE)]
                groups.append(Group(f"{dataset}: {sources}", colour, marker, True, chosen))
            title = "Published on other tasks, not comparable with ours"
            _draw_costs(new / "published.svg", groups, size, title, "parameters")
            figures.append(("published.svg", f"{title}: top-1 against parameters"))
    return figures


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
    that is not nearer to another point or, without one, the position with the smallest overlap.
    """
    figure.draw_without_rendering()  # computes the layout, which determines the points' positions
    scale = figure.dpi / 72
    centres = axes.transData.transform([(x, y) for x, y, _ in points])
    radius = _POINT_RADIUS * scale
    occupied = np.hstack([centres - radius, centres + radius])  # boxes as x0, y0, x1, y1
    inside = np.asarray(axes.get_window_extent().extents)[np.newaxis]
    labels = []
    for number in sorted(range(len(points)), key=lambda index: -points[index][1]):
        x, y, name = points[number]
        # On white, above any lines and below the points.
        white = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
        label = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=fontsize, bbox=white)
        label.set_zorder(1.5)
        label.set_in_layout(False)
        others = np.delete(occupied, number, axis=0)
        best, smallest = _LABEL_POSITIONS[0], float("inf")
        for position in _LABEL_POSITIONS:
            _move(label, position)
            box = np.asarray(label.get_window_extent().extents)
            overlap = _shared(box, others) + _shared(box, box[np.newaxis]) - _shared(box, inside)
            distances = _distances(box, centres)
            if distances.min() < distances[number] - 0.5:
                overlap += _MISTAKABLE
            if overlap < smallest:
                best, smallest = position, overlap
            if overlap == 0:
                break
        _move(label, best)
        occupied = np.vstack([occupied, label.get_window_extent().extents])
        if max(abs(best[0]), abs(best[1])) > _LABEL_POSITIONS[0][0]:
            line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            leader = axes.annotate("", (x, y), best[:2], textcoords="offset points", arrowprops=line)
            leader.set_in_layout(False)
        labels.append(label)
    return labels


def _draw_costs(path: Path, groups: Sequence[Group], cost: Cost, title: str, label: str) -> None:
    """Draw top-1 over `cost`, which `label` names on the axis. Published results without one are horizontal lines."""
    with new_figure(path, width=_SIDE, height=_SIDE + 0.8) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        points = []
        for name, colour, marker, is_hollow, rows in groups:
            known = [(value, 100 * row["test/top1"], _label(row)) for row in rows if (value := cost(row))]
            if known:
                x, y, _ = zip(*known, strict=True)
                face = "white" if is_hollow else colour
                axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=7, label=name)
            if known and name == _FROM_SCRATCH[0]:
                best = frontier(known)
                axes.plot(*zip(*best, strict=True), color=GREY, linestyle="--", linewidth=1, label=_LINE_NAME, zorder=1)
            points += known
        axes.margins(x=0.2, y=0.12)
        axes.set_xlim(*axes.get_xlim())
        low, high = axes.get_xlim()
        unknown = [row for group in groups for row in group.rows if "source" in row and not cost(row)]
        levels = [(high, 100 * row["test/top1"], _label(row)) for row in unknown]
        for number, (_, top1, _name) in enumerate(levels):
            name = "_" * bool(number) + "published by others, cost not known"
            axes.axhline(top1, color=GREY, linestyle=":", linewidth=1.2, label=name, zorder=1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axes.xaxis.set_major_formatter(lambda value, _: magnitude(value))
        axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own formats its labels as formulas
        axes.set(xlabel=f"{label} (log scale)", ylabel="top-1 accuracy, percent")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.legend(loc="outside lower left", ncols=1)
        label_points(figure, axes, points + levels)


def _label(row: Mapping[str, Any]) -> str:
    """Return an experiment's name, and below it the published network that it starts from."""
    return f"{row['cell']}\n{row['network']}" if row.get("network") else str(row["cell"])


def _move(label: Annotation, position: tuple[float, float, str, str]) -> None:
    dx, dy, horizontal, vertical = position
    label.set_position((dx, dy))
    label.set(ha=horizontal, va=vertical)


def _shared(box: np.ndarray, others: np.ndarray) -> float:
    """Return the area, in square pixels, that `box`, (4,), shares with each of `others`, (boxes, 4), summed."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(sides.clip(min=0).prod(axis=1).sum())


def _distances(box: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the distance, in pixels, from `box`, (4,), to each of `centres`, (points, 2)."""
    outside = np.maximum(box[:2] - centres, centres - box[2:]).clip(min=0)
    distances: np.ndarray = np.hypot(outside[:, 0], outside[:, 1])
    return distances
