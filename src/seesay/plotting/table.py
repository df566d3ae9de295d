"""Tables of results, before they become Markdown or HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seesay.params.classification import ENSEMBLE

MISSING = "–"
CHANCE = "chance"
"""Name of the row for guessing without the image, in place of an experiment's."""

Row = dict[str, Any]
"""One row of results: a flat dict with metric keys."""


def with_equal_keys(rows: Sequence[Row]) -> list[Row]:
    """Return rows that all have all keys, with None for what a row lacks: DVC plots no others."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


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
    """A title, an explanatory note, column heads, and rows of text. The first `num_names` columns are names."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int

    def without_empty_columns(self) -> Table:
        """Return the table without the columns that have no value in any row."""
        columns = [
            column for column in range(len(self.heads)) if any(row[column] not in ("", MISSING) for row in self.rows)
        ]
        heads, *rows = (tuple(line[column] for column in columns) for line in (self.heads, *self.rows))
        num_names = sum(column < self.num_names for column in columns)
        return Table(self.title, self.note, heads, tuple(rows), num_names)

    def markdown(self) -> str:
        """Format the heads and rows as a Markdown table, with numbers aligned right."""
        rule = ["---" if column < self.num_names else "---:" for column in range(len(self.heads))]
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
        return str(self.lists.index(tuple(files)) + 1).translate(_SUPERSCRIPTS)

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
