"""Training curves of a run: train and val in one panel, with the best epoch marked."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from seesay.core.errors import InputError
from seesay.core.files import read_text
from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.plotting.style import BLUE, GREY, VERMILION, new_figure
from seesay.plotting.table import is_fraction

_NAMES = {
    "loss": "Loss",
    "top1": "Top-1 accuracy",
    "psnr": "PSNR, dB",
    "perplexity": "Perplexity",
    "cider_d": "CIDEr-D",
    "reward": "Reward",
}
_OMITTED = ("mse", "top5")  # redundant beside the loss and top-1
_MAX_PANELS = 3


@dataclass(frozen=True)
class History:
    """A history table: steps (epochs), and the values of each column, None where a step has none.

    `best_step` is the step of the checkpoint, as the metrics of the same run state it.
    """

    steps: list[int]
    columns: dict[str, list[float | None]]
    best_step: int


def read_history(paths: Paths, stage: str, cell: str) -> History:
    """Read the history table of a training and, from its metrics, `best_epoch`.

    The table is a CSV with the columns `step` (first) and `val/loss`. Raises `InputError` for other files.
    """
    path, metrics = paths.table(stage, cell, "history"), paths.metrics(stage, cell)
    steps, columns = _read_table(path)
    best_step = read_stage_json(metrics, stage, cell).get("best_epoch")
    if best_step not in steps:
        raise InputError(f"{metrics}: best_epoch: got {best_step}: expected one of the steps in {path.name}")
    return History(steps, columns, int(best_step))


def _read_table(path: Path) -> tuple[list[int], dict[str, list[float | None]]]:
    rows = list(csv.reader(read_text(path).splitlines()))
    if len(rows) < 2 or rows[0][:1] != ["step"] or "val/loss" not in rows[0]:
        raise InputError(f"{path}: expected a table with the columns step and val/loss and at least one row")
    names = rows[0][1:]
    steps: list[int] = []
    columns: dict[str, list[float | None]] = {name: [] for name in names}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise InputError(f"{path}: line {number}: expected {len(rows[0])} cells, got {len(row)}")
        try:
            steps.append(int(row[0]))
            for name, cell in zip(names, row[1:], strict=True):
                columns[name].append(float(cell) if cell else None)
        except ValueError as error:
            raise InputError(f"{path}: line {number}: expected numbers ({error})") from None
    return steps, columns


def draw_curves(path: Path, history: History, *, title: str) -> None:
    """Draw one panel per quantity with a `val/` column: loss first, fractions in percent.

    For a history of one step, such as an ensemble's, the values are written as text instead of curves.
    """
    quantities = [name.removeprefix("val/") for name in history.columns if name.startswith("val/")]
    quantities = [name for name in quantities if name not in _OMITTED]
    quantities = sorted(quantities, key=lambda name: name != "loss")[:_MAX_PANELS]
    if len(history.steps) == 1:
        _draw_single(path, history, quantities, title=title)
        return
    with new_figure(path, width=4.2 * len(quantities), height=3.2) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
            _draw_quantity(axes, history, quantity)


def _draw_single(path: Path, history: History, quantities: list[str], *, title: str) -> None:
    step = history.steps[0]
    lines = ["Not trained: evaluated once." if step == 0 else f"Trained for one epoch ({step})."]
    for name, (value,) in history.columns.items():
        split, _, quantity = name.partition("/")
        if quantity in quantities and value is not None:
            text = f"{100 * value:.1f} %" if is_fraction(quantity) else f"{value:.3g}"
            label = _NAMES.get(quantity, quantity)
            label = label if label[1].isupper() else label[0].lower() + label[1:]  # within a line: loss, but PSNR
            lines.append(f"{split} {label}: {text}")
    with new_figure(path, width=4.2, height=0.4 + 0.22 * len(lines)) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots()
        axes.axis("off")
        axes.text(0, 1, "\n".join(lines), va="top", transform=axes.transAxes, linespacing=1.5)


def _draw_quantity(axes: Axes, history: History, quantity: str) -> None:
    scale = 100 if is_fraction(quantity) else 1
    for split, colour, marker in (("train", VERMILION, "o"), ("val", BLUE, "s")):
        values = history.columns.get(f"{split}/{quantity}")
        if values is None or not any(value is not None for value in values):
            continue
        known = [(step, scale * value) for step, value in zip(history.steps, values, strict=True) if value is not None]
        axes.plot(*zip(*known, strict=True), color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=split)
    best = history.best_step
    if best > 0:  # 0: not trained, but evaluated once
        axes.axvline(best, color=GREY, linestyle="--", linewidth=1, label=f"best epoch ({best})")
    name = _NAMES.get(quantity, quantity.replace("_", " "))
    axes.set_title(name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("percent" if scale == 100 else name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="best")
