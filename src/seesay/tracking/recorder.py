"""How a stage's numbers are written once and land everywhere: metrics files, history, MLflow and the run record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from seesay.files import file_digest, write_json, write_text
from seesay.paths import Paths, cell_name
from seesay.tracking.records import ArtifactFile, DatasetUse, Point, RunRecord, flatten, now_ms, write_record

if TYPE_CHECKING:
    from seesay.compute import Compute
    from seesay.data.sources import SourceNote


@dataclass
class StageLog:
    """What a stage calls while it runs. Nothing lands under its final name before the stage has ended well."""

    root: Path
    record: RunRecord

    def __call__(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Metrics of one step (an epoch, from 1): a row of the history table and a point of each curve in MLflow."""
        self.record.history.append(Point(step, now_ms(), _floats(metrics)))

    def summary(self, metrics: Mapping[str, float]) -> None:
        """The stage's results: what its metrics file will hold."""
        self.record.summary |= _floats(metrics)

    def measurement(self, values: Mapping[str, float]) -> None:
        """Times and throughput, which differ from run to run: for MLflow and the run record, never a metrics file."""
        self.record.measurements |= _floats(values)

    def artifact(self, path: Path) -> None:
        """A file, or a folder with all its files, already written."""
        self.record.artifacts += self._files(path)

    def model(self, path: Path) -> None:
        """The weights: their digest is recorded; the bytes stay with DVC."""
        self.record.models += self._files(path)

    def dataset(self, name: str, *, digest: str, context: str, source: SourceNote) -> None:
        """A dataset the stage reads, with the digest of its contents."""
        substitutes = list(source.substitutes)
        self.record.datasets.append(DatasetUse(name, digest, context, source.to_json(), substitutes))

    @property
    def scratch(self) -> Path:
        """The folder for state that lets a killed stage resume: outside DVC's outputs, removed when the stage is done.

        Its name is made of the stage, its parameters, the datasets named so far and the code loaded so far: a cheap
        stand-in for DVC's own stage hash, which costs a second to compute and is needed at once here.
        """
        return Paths(self.root).scratch / _scratch_key(self.record)

    def _files(self, path: Path) -> list[ArtifactFile]:
        names = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return [ArtifactFile(self._relative(name), file_digest(name), self._folder(name)) for name in names]

    def _relative(self, path: Path) -> str:
        return path.resolve().relative_to(self.root.resolve()).as_posix()

    def _folder(self, path: Path) -> str:
        """Where the file goes inside MLflow's artifacts: its first folder, as `reports` or `metrics`."""
        first, *rest = Path(self._relative(path)).parts
        return first if rest else ""


@contextmanager
def record_stage(
    root: Path,
    stage: str,
    cell: str | None = None,
    *,
    params: BaseModel | Mapping[str, Any],
    seed: int | None = None,
    compute: Compute | None = None,
) -> Iterator[StageLog]:
    """Records one run of a stage: its files land when the block ends, and nothing of them when it raises."""
    paths = Paths(root)
    record = RunRecord(stage=stage, cell=cell, params=flatten(params), seed=seed)
    if compute is not None:
        record.tags |= compute.describe()
    log = StageLog(root, record)
    yield log
    record.ended_ms, record.status = now_ms(), "FINISHED"
    write_results(paths, record)
    write_record(paths.run_record(stage, cell), record)
    shutil.rmtree(log.scratch, ignore_errors=True)


def write_results(paths: Paths, record: RunRecord) -> None:
    """Writes the history table and the metrics file of a run, where it has any."""
    if record.history:
        write_text(paths.table(record.stage, record.cell, "history"), history_table(record.history))
    if record.summary:
        write_json(paths.metrics(record.stage, record.cell), record.summary)


def history_table(history: list[Point]) -> str:
    """A CSV: `step` and one column per metric, in the order they first came; an empty cell where one was not logged."""
    names = list(dict.fromkeys(name for point in history for name in point.metrics))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["step", *names])
    for point in history:
        rows.writerow([point.step, *(repr(point.metrics[name]) if name in point.metrics else "" for name in names)])
    return text.getvalue()


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Plain numbers: integers stay integers in the files; numpy and torch scalars become floats."""
    return {name: value if type(value) in (int, float) else float(value) for name, value in metrics.items()}


def _scratch_key(record: RunRecord) -> str:
    facts = [cell_name(record.stage, record.cell), record.params, record.seed, [d.digest for d in record.datasets]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        ours = name == "__main__" or (name.startswith("seesay.") and not name.startswith("seesay.tracking"))
        if ours and file and Path(file).is_file():
            digest.update(file_digest(Path(file)).encode())
    return digest.hexdigest()[:32]
