"""What is a table of results, before it becomes Markdown or HTML?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seesay.params.classification import ENSEMBLE

MISSING = "–"
CHANCE = "chance"
"""What the row of guessing at random is called, in place of an experiment."""

Row = dict[str, Any]
"""One line of results: flat, with metric keys."""

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Measured:
    """Times by cell. Of classifiers: `throughput` is images a second by batch size; `core_seconds` are those of
    training its first network, `core_seconds_all_seeds` of all its networks. Of captioners: `captioner_core_seconds`.
    """

    throughput: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    core_seconds: Mapping[str, float] = field(default_factory=dict)
    core_seconds_all_seeds: Mapping[str, float] = field(default_factory=dict)
    captioner_core_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A title, a sentence on what it shows, heads, and rows of text; the first `num_names` columns are names."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int

    def without_empty_columns(self) -> Table:
        """The same table less the columns that have no value in any row."""
        kept = [
            column for column in range(len(self.heads)) if any(row[column] not in ("", MISSING) for row in self.rows)
        ]
        heads, *rows = (tuple(line[column] for column in kept) for line in (self.heads, *self.rows))
        num_names = sum(column < self.num_names for column in kept)
        return Table(self.title, self.note, heads, tuple(rows), num_names)

    def markdown(self) -> str:
        """The heads and rows as a Markdown table; numbers to the right."""
        rule = ["---" if column < self.num_names else "---:" for column in range(len(self.heads))]
        lines = [self.heads, rule, *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass
class Footnotes:
    """Numbered notes on files that stand in for official ones: one number per distinct list of files."""

    lists: list[tuple[str, ...]] = field(default_factory=list)

    def mark(self, files: Sequence[str]) -> str:
        """The superscript to put beside a result made from these files; "" where there are none."""
        if not files:
            return ""
        if tuple(files) not in self.lists:
            self.lists.append(tuple(files))
        return str(self.lists.index(tuple(files)) + 1).translate(_SUPERSCRIPTS)

    def texts(self) -> list[str]:
        """The notes, each with its mark."""
        return [
            f"{self.mark(files)} Substitutes: made from files of a mirror that differ from the official ones: "
            f"{', '.join(files)}."
            for files in self.lists
        ]


def cost_from_nothing(cell: str, own: Mapping[str, float], rows: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The training cost of one network of `cell` with its teacher's or its members'; None where one is not known.

    `own` is the cost of training one network, by cell; `rows` say what a cell is `built_on`, its `architecture` and how
    many networks it has (`seeds/num`). An ensemble needs all the networks of the cell it is built on, a student one.
    """
    row, cost = rows[cell], own.get(cell)
    parent = row.get("built_on")
    if cost is None or parent is None:
        return cost
    of_parent = cost_from_nothing(parent, own, rows) if parent in rows else None
    if of_parent is None:
        return None
    num_networks = rows[parent].get("seeds/num") or 1.0
    return cost + of_parent * (num_networks if row.get("architecture") == ENSEMBLE else 1.0)
