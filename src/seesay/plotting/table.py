"""Numbers as text, and tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seesay.params.classification import ENSEMBLE

_FRACTIONS = (
    *("top1", "top1_low", "top1_high", "top1_flipped", "top1_views", "top1_mean", "top1_std", "top5"),
    *("macro_f1", "balanced_accuracy", "ece", "ece_calibrated"),
    *("share_novel", "rouge_l", "bleu1", "bleu2", "bleu3", "bleu4"),
)


def is_fraction(metric: str) -> bool:
    """Return true for a fraction that is reported in percent; `metric` is a key or a full metric name."""
    return _key_name(metric) in _FRACTIONS


def format_value(metric: str, value: float) -> str:
    """Format a metric with its unit: `68.8 %`, `0.352`, `22.41 dB`."""
    if not math.isfinite(value):
        return str(value)
    if is_fraction(metric):
        return f"{_without_trailing_zeros(100 * value, 2)} %"
    if "psnr" in _key_name(metric):
        return f"{value:.2f} dB"
    return _without_trailing_zeros(value, 4)


def format_change(metric: str, difference: float) -> str:
    """Format a difference between two values of a metric: `2 points` for percentages, `0.5 dB`, `0.03`."""
    if is_fraction(metric):
        points = _without_trailing_zeros(100 * difference, 2)
        return f"{points} point{'s' * (points != '1')}"
    return _without_trailing_zeros(difference, 4) + (" dB" if "psnr" in _key_name(metric) else "")


def percent(value: float | None, *, decimals: int = 1) -> str:
    """Format a fraction in percent without the sign, which is in the column's head; a dash for None."""
    return "–" if value is None else f"{100 * value:.{decimals}f}"


def percent_with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a fraction in percent with its interval: `68.8 (66.5 to 71.1)`."""
    if value is None or low is None or high is None:
        return percent(value)
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


def decimal_with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a number with its interval: `23.41 (23.29 to 23.53)`."""
    if value is None or low is None or high is None:
        return decimal(value, decimals=2)
    return f"{decimal(value, decimals=2)} ({decimal(low, decimals=2)} to {decimal(high, decimals=2)})"


def percent_with_spread(mean: float | None, deviation: float | None, count: float | None) -> str:
    """Format mean, standard deviation and count of fractions, the first two in percent: `68.8 ± 0.6 (3)`."""
    if mean is None or deviation is None or count is None:
        return percent(mean)
    return f"{percent(mean)} ± {percent(deviation)} ({whole(count)})"


def probability(value: float | None) -> str:
    """Format a p-value: `p 0.032`, `p < 0.0001`."""
    if value is None:
        return "–"
    return "p < 0.0001" if value < 1e-4 else f"p {value:.2g}" if value < 0.1 else f"p {value:.2f}"


def decimal(value: float | None, *, decimals: int = 3) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def whole(value: float | None) -> str:
    """Format a count with thousands separators: `13,500`."""
    return "–" if value is None else f"{round(value):,}"


def magnitude(value: float | None) -> str:
    """Format a large count in short: `1.65 M`, `190 M`, `3.1 G`, `12 T`."""
    if value is None:
        return "–"
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _without_trailing_zeros(value: float, decimals: int) -> str:
    return re.sub(r"\.?0+$", "", text) if "." in (text := f"{value:.{decimals}f}") else text


def _key_name(metric: str) -> str:
    return re.split(r"[:/]", metric)[-1]


MISSING = "–"
CHANCE = "chance"
"""Name of the row for guessing without the image, in place of an experiment's."""

Row = dict[str, Any]
"""One row of results: a flat dict with metric keys."""


def with_equal_keys(rows: Sequence[Row]) -> list[Row]:
    """Return rows that all have all keys, with None for what a row lacks: DVC plots no others."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
"""The digits of footnote marks."""


@dataclass(frozen=True)
class Timings:
    """Measured speed and training costs by experiment.

    For classifiers: `throughput` is images per second by batch size; `core_seconds` is the cost of training the first
    network, `core_seconds_all_seeds` that of all networks. For captioners: `captioner_core_seconds`.
    """

    throughput: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    core_seconds: Mapping[str, float] = field(default_factory=dict)
    core_seconds_all_seeds: Mapping[str, float] = field(default_factory=dict)
    captioner_core_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A title, an explanatory note, column heads, and rows of text. The first `num_names` columns are names.

    A page shows the columns in `main` at first, and all of them on demand; where `main` is empty, all at once.
    """

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int
    main: tuple[str, ...] = ()

    def without_empty_columns(self) -> Table:
        """Return the table without the columns that have no value in any row."""
        columns = [
            column for column in range(len(self.heads)) if any(row[column] not in ("", MISSING) for row in self.rows)
        ]
        heads, *rows = (tuple(line[column] for column in columns) for line in (self.heads, *self.rows))
        num_names = sum(column < self.num_names for column in columns)
        return Table(self.title, self.note, heads, tuple(rows), num_names, self.main)

    def is_number(self, column: int) -> bool:
        """Return true for a column of numbers, which are aligned right."""
        cells = (row[column] for row in self.rows)
        return column >= self.num_names and all(re.match(r"[-+]?\d|p |–|$", cell) for cell in cells)

    def markdown(self) -> str:
        """Format the heads and rows as a Markdown table, with numbers aligned right."""
        rule = ["---:" if self.is_number(column) else "---" for column in range(len(self.heads))]
        lines = [self.heads, rule, *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass
class Footnotes:
    """Numbered notes on substituted files: one number per distinct list of files."""

    lists: list[tuple[str, ...]] = field(default_factory=list)

    def mark(self, files: Sequence[str]) -> str:
        """Return the superscript for a result that was computed from these files; "" for no files."""
        if not files:
            return ""
        if tuple(files) not in self.lists:
            self.lists.append(tuple(files))
        return str(self.lists.index(tuple(files)) + 1).translate(str.maketrans("0123456789", SUPERSCRIPTS))

    def texts(self) -> list[str]:
        """Return the notes, each with its mark."""
        return [
            f"{self.mark(files)} Substitutes: computed from files of a mirror that differ from the official ones: "
            f"{', '.join(files)}."
            for files in self.lists
        ]


def total_training_cost(cell: str, own: Mapping[str, float], rows: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the training cost of one network of `cell` plus its teacher's or members'; None where one is not known.

    `own` holds the cost of training one network, by experiment. `rows` hold what an experiment is `built_on` (one name,
    or several with commas), its `architecture` and its number of networks (`seeds/num`). An ensemble needs all networks
    of the experiments it is built on, a student only one.
    """
    row, cost = rows[cell], own.get(cell)
    if cost is None or row.get("built_on") is None:
        return cost
    for parent in str(row["built_on"]).split(", "):
        parent_cost = total_training_cost(parent, own, rows) if parent in rows else None
        if parent_cost is None:
            return None
        num_networks = rows[parent].get("seeds/num") or 1.0
        cost += parent_cost * (num_networks if row.get("architecture") == ENSEMBLE else 1.0)
    return cost
