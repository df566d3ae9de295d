"""What does a classifier cost from nothing: its own training, and that of what it is built on?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seesay.params.experiments import ENSEMBLE


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
