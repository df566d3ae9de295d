"""Tiny runs of a proof, and the comparison of their numbers with the committed ones."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_text
from seesay.core.paths import Paths
from seesay.params.classification import Architecture
from seesay.proving import tiny_data
from seesay.proving.cases import COMMON, PROOFS, RECORDED, Proof
from seesay.proving.numbers import numbers_of

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


def run_proof(kind: str, name: str, *, stages: Path) -> dict[str, Any]:
    """Return the numbers of each case of the proof `name` of `kind`, computed by the scripts in the folder `stages`."""
    proof = PROOFS[kind][name]
    cases = {}
    with TemporaryDirectory() as folder, untracked():
        root = Path(folder)
        prepare(root, proof)
        for stage, cell in proof.steps:
            with (root / "log").open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
                load_stage(stages / f"{stage}.py").main(cell, root)
            if stage == RECORDED[kind]:
                cases[cell] = numbers_of(root, stage, cell)
    return cases


def prepare(root: Path, proof: Proof) -> None:
    """Write params.yaml and all data that the steps of `proof` start from."""
    paths = Paths(root)
    with paths.params.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump({**COMMON, **proof.params}, file)
    images = tiny_data.write_images(paths, "tiny")
    tiny_data.write_images(paths, "misleading", val_shift=1)
    tiny_data.write_images(paths, "uneven", num_of_last=3)
    for cell, architecture in proof.classifiers.items():
        tiny_data.write_classifier(paths, cell, Architecture(**architecture), images)
    for network in proof.weights:
        tiny_data.write_weights(paths, network)
    if {"features", "captioners"} & set(proof.params):
        dots, lines = (tiny_data.write_captions(paths, name) for name in ("dots", "lines"))
        tiny_data.write_vocabularies(paths, dots, lines)
        for captions in (dots, lines):
            tiny_data.write_random_features(paths, captions.name, captions)
        tiny_data.write_random_features(paths, "dots_views", dots, num_views=2)
        for cell, made_of in proof.finetuned.items():
            tiny_data.write_finetuned_encoder(paths, cell, made_of, dots)


@contextlib.contextmanager
def untracked() -> Iterator[None]:
    """Turn tracking off: the runs of a proof are not runs of the pipeline, and are not recorded in MLflow."""
    before = os.environ.get("SEESAY_TRACKING")
    os.environ["SEESAY_TRACKING"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SEESAY_TRACKING"]
        else:
            os.environ["SEESAY_TRACKING"] = before


def load_stage(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stage_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
