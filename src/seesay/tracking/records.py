"""Run records. A record holds everything that MLflow shows about one stage run, as one JSON file that DVC caches."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from seesay.core.errors import InputError, redact, shorten
from seesay.core.files import read_json, write_json

SCHEMA = 1

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Point:
    """Metrics logged together, at one step (an epoch, counted from 1) and one time (milliseconds since 1970)."""

    step: int
    time_ms: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class DatasetUse:
    """A dataset that the run read: its content digest, its use (`context`) and the source of its files."""

    name: str
    digest: str
    context: str
    source: dict[str, Any]
    substitutes: list[str]


@dataclass(frozen=True)
class ArtifactFile:
    """A file that the run wrote: its path in the workspace, its SHA-256 digest and its folder in MLflow's artifacts."""

    path: str
    sha256: str
    folder: str


@dataclass
class RunRecord:
    """One stage run.

    `run_id` is null if the tracker could not be reached; `record_id` is never null. `changes` is the difference between
    the code and the git commit, with a limited length. It is "" if there is no difference.
    """

    stage: str
    cell: str | None
    params: dict[str, Scalar]
    seed: int | None
    schema: int = SCHEMA
    record_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    experiment: str = ""
    run_id: str | None = None
    tracking: str = "off"
    status: str = "RUNNING"
    started_ms: int = field(default_factory=lambda: now_ms())
    ended_ms: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[DatasetUse] = field(default_factory=list)
    history: list[Point] = field(default_factory=list)
    summary: dict[str, float] = field(default_factory=dict)
    measurements: dict[str, float] = field(default_factory=dict)
    artifacts: list[ArtifactFile] = field(default_factory=list)
    models: list[ArtifactFile] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    changes: str = ""
    pipeline_key: str | None = None
    pipeline_run_id: str | None = None

    @property
    def run_name(self) -> str:
        """The stage's verb and the experiment, as in `train mlp`; for a stage without cells, its name."""
        return self.stage if self.cell is None else f"{self.stage.partition('_')[0]} {self.cell}"

    @property
    def address(self) -> str:
        """DVC's name of the stage instance: `train_classifier@mlp`."""
        return self.stage if self.cell is None else f"{self.stage}@{self.cell}"


_RECORD = TypeAdapter(RunRecord)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def write_record(path: Path, record: RunRecord) -> None:
    write_json(path, asdict(record))


def read_record(path: Path) -> RunRecord:
    """Read the run record in `path`. Raise `InputError` if it is invalid (later schema, missing key, wrong type)."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: schema: got {found!r}: expected {SCHEMA}")
    names = RunRecord.__dataclass_fields__
    if set(content) != set(names):
        wrong = ", ".join(sorted(set(content) ^ set(names)))
        raise InputError(f"{path}: not a run record of schema {SCHEMA}: missing or unknown keys: {wrong}")
    try:
        return _RECORD.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {key}: got {shorten(first['input'])}: {first['msg']}") from None


def flatten(params: BaseModel | Mapping[str, Any], *, prefix: str = "") -> dict[str, Scalar]:
    """Return nested parameters as a flat dict with dotted keys, without credentials in URLs.

    Example: `{"training.optimizer.name": "sgd", "architecture.widths": "[32, 64]"}`.
    """
    tree = params.model_dump(mode="json") if isinstance(params, BaseModel) else dict(params)
    flat: dict[str, Scalar] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, BaseModel | Mapping):
            flat |= flatten(value, prefix=f"{name}.")
        elif isinstance(value, list | tuple):
            if any(isinstance(item, BaseModel | Mapping) for item in value):
                flat |= flatten({str(i): item for i, item in enumerate(value)}, prefix=f"{name}.")
            else:
                flat[name] = redact(str(list(value)))
        elif isinstance(value, str):
            flat[name] = redact(value)
        elif value is None or isinstance(value, int | float | bool):
            flat[name] = value
        else:
            flat[name] = redact(str(value))
    return flat
