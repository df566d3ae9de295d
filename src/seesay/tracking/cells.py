"""Which stage instances the pipeline has now: dvc.yaml says which, dvc.lock what each was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesay.params.reading import PARAMS_FILE, read_yaml
from seesay.paths import Paths, cell_name


@dataclass(frozen=True)
class Instance:
    """A stage, or one cell of it. `lock` is its entry in dvc.lock; None where it has never run."""

    stage: str
    cell: str | None
    lock: Mapping[str, Any] | None

    @property
    def address(self) -> str:
        return cell_name(self.stage, self.cell)


def read_instances(root: Path) -> list[Instance]:
    """All instances in dvc.yaml's order. dvc.lock alone would not do: it keeps the entries of cells that are gone."""
    paths = Paths(root)
    stages = read_yaml(paths.pipeline).get("stages") or {}
    locked = (read_yaml(paths.lock).get("stages") or {}) if paths.lock.is_file() else {}
    params = read_yaml(root / PARAMS_FILE) if (root / PARAMS_FILE).is_file() else {}
    return [
        Instance(stage, cell, locked.get(cell_name(stage, cell)))
        for stage, definition in stages.items()
        for cell in _cells(stage, definition, params, locked)
    ]


def _cells(stage: str, definition: Any, params: Mapping[str, Any], locked: Mapping[str, Any]) -> Iterator[str | None]:
    entries = definition.get("foreach")
    if entries is None and "matrix" not in definition:
        yield None
        return
    if isinstance(entries, str):
        entries = _look_up(entries, params)
    if isinstance(entries, Mapping | list):
        yield from map(str, entries)
        return
    for address in locked:  # a matrix, or a foreach over something else than params.yaml
        if address.startswith(f"{stage}@"):
            yield address.split("@", 1)[1]


def _look_up(reference: str, params: Mapping[str, Any]) -> Any:
    """What `${a.b}` stands for in params.yaml."""
    value: Any = params
    for part in reference.strip().removeprefix("${").removesuffix("}").strip().split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
