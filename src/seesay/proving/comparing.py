"""Comparison of proofs, and writing of a proof only where its numbers changed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_text

TOLERANCE = 2e-4
"""The largest relative difference between numbers that agree.

Vector instructions and thread counts change the order of summation, which moves the numbers of a proof by a fraction of
the tolerance. A change of behaviour moves some of them by more.
"""

SMALLEST = 1e-3
"""Differences of smaller numbers are taken relative to this: a number that should be zero is only rounding error."""

MOST_NAMED = 4
"""The largest number of moved numbers that a message names."""

LINE = 110
"""The longest line of a proof, in characters, where the content can be broken."""


class Move(NamedTuple):
    """The place of a difference, and its relative size: infinite where the two values cannot be compared."""

    where: str
    size: float

    def __str__(self) -> str:
        return f"{self.where} ({self.size:.2g})" if math.isfinite(self.size) else self.where


def moves(old: Any, new: Any, where: str = "") -> Iterator[Move]:
    """Yield the differences between `old` and `new`, including those of floats within the tolerance.

    Integers and texts are either equal or infinitely different. In a list [count, sum, norm] the difference of the
    sums is taken relative to the norm.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            inside = f"{where}/{key}" if where else str(key)
            if key not in old or key not in new:
                yield Move(f"{inside} is {'new' if key in new else 'gone'}", math.inf)
            else:
                yield from moves(old[key], new[key], inside)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield Move(f"{where} has {len(new)} values instead of {len(old)}", math.inf)
            return
        scale = _scale_of_sums(old, new)
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _difference(*pair, f"{where}[{index}]", scale if index == 1 else 0.0)
    else:
        yield from _difference(old, new, where, 0.0)


def _difference(old: Any, new: Any, where: str, scale: float) -> Iterator[Move]:
    if not (type(old) is type(new) is float):
        if type(old) is not type(new) or old != new:
            yield Move(f"{where}: {old!r} -> {new!r}", math.inf)
    elif not (math.isfinite(old) and math.isfinite(new)):
        yield Move(f"{where}: {old} -> {new}", math.inf)
    else:
        yield Move(where, abs(old - new) / max(abs(old), abs(new), scale, SMALLEST))


def _scale_of_sums(old: list[Any], new: list[Any]) -> float:
    """Return the larger norm of two lists [count, sum, norm], and 0 for other lists.

    A sum of numbers of both signs may be small, but its rounding error is not: that depends on the norm.
    """
    if len(old) == 3 and type(old[0]) is int and type(old[2]) is type(new[2]) is float:
        return max(old[2], new[2])
    return 0.0


def update(path: Path, content: dict[str, Any]) -> str:
    """Write `content` to `path` unless the file there agrees with it. Return a line that describes the outcome."""
    if not path.exists():
        write_text(path, as_text(content))
        return f"{path}: new"
    try:
        old = read_json(path)
    except InputError as error:
        write_text(path, as_text(content))
        return f"{path}: rewritten: {error}"
    found = sorted(moves(old, content), key=lambda move: -move.size)
    moved = [move for move in found if move.size > TOLERANCE]
    if not moved:
        return f"{path}: unchanged (largest difference {found[0].size:.1e})" if found else f"{path}: unchanged"
    write_text(path, as_text(content))
    more = f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
    return f"{path}: moved: {', '.join(map(str, moved[:MOST_NAMED]))}{more}"


def as_text(content: Any, indent: str = "") -> str:
    """Return JSON with sorted keys. Each list is on one line, and so is each dictionary that fits on one."""
    flat = json.dumps(content, sort_keys=True, ensure_ascii=False)
    if not isinstance(content, dict) or len(indent) + len(flat) <= LINE:
        return flat + ("" if indent else "\n")
    inner = indent + " "
    lines = [f"{inner}{json.dumps(key)}: {as_text(content[key], inner)}" for key in sorted(content)]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}" + ("" if indent else "\n")
