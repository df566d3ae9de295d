"""Recorder of stage runs.

A stage logs each number once. The recorder writes it to the metrics file, the history table and the run record, and
sends it to the tracker process, which writes to MLflow with `seesay.tracking.mlflow_runs`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from seesay.core.errors import InputError, redact
from seesay.core.files import file_digest, private_directory, write_text
from seesay.core.paths import Paths, cell_name
from seesay.core.stage import Scratch, remove_saved_scratch
from seesay.tracking.environment import describe_environment, describe_git, lock_digest
from seesay.tracking.records import (
    ArtifactFile,
    DatasetUse,
    Point,
    RunRecord,
    Scalar,
    flatten,
    now_ms,
    read_record,
    write_record,
)
from seesay.tracking.tracker import Tracker, find_pipeline

if TYPE_CHECKING:
    from seesay.compute import Compute
    from seesay.sources.provenance import SourceNote


@dataclass
class StageLog:
    """The log of a running stage. No file gets its final name before the stage has ended successfully."""

    root: Path
    record: RunRecord
    tracker: Tracker | None
    is_written: bool = True
    """False where another rank of the stage writes: then this log is only something to call."""
    _scratch: Scratch | None = None

    def __call__(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Log the metrics of one step (an epoch, counted from 1).

        They become a row of the history table and a point of each curve in MLflow.
        """
        point = Point(step, now_ms(), _floats(metrics))
        self.record.history.append(point)
        self._send("points", points=[asdict(point)])

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Log the stage's results, which become the content of its metrics file."""
        self.record.summary |= _floats(metrics)

    def measurement(self, values: Mapping[str, float]) -> None:
        """Log times and throughput, which differ from run to run.

        They go to MLflow and the run record, but never to a metrics file.
        """
        self.record.measurements |= _floats(values)

    def artifact(self, path: Path) -> None:
        """Log a file, or all files of a folder. They must already be written."""
        files = self._files(path)
        self.record.artifacts += files
        self._send("artifacts", root=str(self.root), artifacts=[asdict(file) for file in files])

    def model(self, path: Path) -> None:
        """Log model weights. Only their digest is recorded; the bytes stay with DVC."""
        self.record.models += self._files(path)

    def dataset(self, name: str, *, digest: str, context: str, source: SourceNote) -> None:
        """Log a dataset that the stage reads, with the digest of its contents."""
        use = DatasetUse(name, digest, context, source.to_json(), list(source.substitutes))
        self.record.datasets.append(use)
        self._send("dataset", dataset=asdict(use))

    @property
    def scratch(self) -> Path:
        """The folder for the state from which a killed stage resumes; this process has it until the stage ends.

        Its name is a hash of the stage, its parameters, the datasets logged before the first call and the code loaded
        by then. DVC's own stage hash takes a second to compute, and the name is needed immediately, so this is a cheap
        substitute.
        """
        if self._scratch is None:
            folder = Paths(self.root).scratch / _scratch_key(self.record)
            if not self.is_written:
                return folder
            self._scratch = Scratch(folder, cell_name(self.record.stage, self.record.cell))
        return self._scratch.folder

    def _end_scratch(self, *, finished: bool) -> None:
        if self._scratch is not None:
            record = self.record
            if finished:
                self._scratch.finish(self.root, Paths(self.root).run_record(record.stage, record.cell))
            self._scratch.release()

    def _files(self, path: Path) -> list[ArtifactFile]:
        names = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        inside = [name.relative_to(path).parent if path.is_dir() else Path() for name in names]
        top = self._folder(path)
        return [
            ArtifactFile(self._relative(name), file_digest(name), "" if top / sub == Path() else (top / sub).as_posix())
            for name, sub in zip(names, inside, strict=True)
        ]

    def _relative(self, path: Path) -> str:
        # As it is named, not resolved: data/ may be a link to another disk.
        return path.absolute().relative_to(self.root).as_posix()

    def _folder(self, path: Path) -> Path:
        """Return a file's folder in MLflow's artifacts: `figures`, or its top folder, such as `metrics`."""
        first, *rest = Path(self._relative(path)).parts
        if first == "reports" and rest[0] == "figures":
            return Path("figures")
        return Path(first) if rest else Path()

    def _send(self, do: str, **content: Any) -> None:
        if self.tracker is not None:
            self.tracker.send(do, **content)


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
    """Record one run of a stage. Its files are written when the block ends, and none of them if it raises.

    The files are authoritative, and MLflow is a view of them. A tracker that is down or slow causes one warning and
    changes no result. SEESAY_TRACKING=off disables MLflow. Of the ranks of a stage, rank 0 records.
    """
    root = root.absolute()
    if compute is not None and not compute.ranks.is_first:
        yield StageLog(root, RunRecord(stage, cell, params=flatten(params), seed=seed), None, is_written=False)
        return
    with suppress(OSError):  # only resuming and MLflow need it
        private_directory(Paths(root).scratch)
    remove_saved_scratch(root)
    record = RunRecord(stage=stage, cell=cell, params=_earlier_params(root, stage, cell) | flatten(params), seed=seed)
    record.environment = describe_environment(root)
    git, record.changes = describe_git(root)
    record.tags = git | _dvc_tags(root) | ({} if compute is None else compute.describe())
    log = StageLog(root, record, _open_tracker(root, record))
    try:
        yield log
        log.measurement({"peak_memory_gb": _peak_memory()})
        record.ended_ms, record.status = now_ms(), "FINISHED"
        _land(log)
        log._end_scratch(finished=True)
    except BaseException as error:
        log._end_scratch(finished=False)
        if log.tracker is not None:
            log.tracker.send("tags", tags={"seesay.error": redact(f"{type(error).__name__}: {error}")})
            log.tracker.wait("end", status=_status(error), ended_ms=now_ms(), deadline=log.tracker.deadline)
        raise


def _peak_memory() -> float:
    """Return the most memory that this process has held, in GB, pages of mapped files included."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


_EARLIER = {
    "evaluate_classifier": ("train_classifier",),
    "evaluate_autoencoder": ("train_autoencoder",),
    "score_captions": ("train_captioner", "caption_images"),
}


def _earlier_params(root: Path, stage: str, cell: str | None) -> dict[str, Scalar]:
    """Return the parameters of the stages that made what `stage` measures.

    A run with test scores then has its experiment's parameters, so that one search compares them.
    """
    params: dict[str, Scalar] = {}
    for earlier in _EARLIER.get(stage, ()):
        with suppress(InputError):  # of a version that wrote other records
            params |= read_record(Paths(root).run_record(earlier, cell)).params
    return params


def _open_tracker(root: Path, record: RunRecord) -> Tracker | None:
    if os.environ.get("SEESAY_TRACKING") == "off":
        return None
    pipeline = find_pipeline(root)
    record.pipeline_key = pipeline.key if pipeline.is_pipeline else None
    return Tracker(root, record, pipeline)


def _land(log: StageLog) -> None:
    """Write the files of a finished run.

    The run record comes last, because it states whether MLflow recorded the run.
    """
    record, tracker, paths = log.record, log.tracker, Paths(log.root)
    record_path = paths.run_record(record.stage, record.cell)
    written: list[Path] = []
    try:
        for path, content in results(paths, record).items():
            write_text(path, content)
            written.append(path)
        if tracker is not None:
            deadline = tracker.deadline
            reached = tracker.wait("results", record=asdict(record), deadline=deadline)
            record.tracking = "recorded" if reached else "unreachable"
            record.run_id = tracker.answers.get("run_id")
            record.experiment = tracker.answers.get("experiment", "")
            record.pipeline_run_id = tracker.answers.get("pipeline_run_id")
            if "stage_hash" in tracker.answers:
                record.tags["dvc.stage_hash"] = tracker.answers["stage_hash"]
        write_record(record_path, record)
        written.append(record_path)
        if tracker is not None:
            tracker.wait("end", status="FINISHED", ended_ms=record.ended_ms, deadline=deadline)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def results(paths: Paths, record: RunRecord) -> dict[Path, str]:
    """Return the contents of a run's history table and metrics file, as far as it has them."""
    files: dict[Path, str] = {}
    if record.history:
        files[paths.table(record.stage, record.cell, "history")] = history_table(record.history)
    if record.summary:
        files[paths.metrics(record.stage, record.cell)] = json.dumps(record.summary, indent=2, sort_keys=True) + "\n"
    return files


def _dvc_tags(root: Path) -> dict[str, str]:
    tags = {
        "dvc.lock_sha256": lock_digest(root),
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
    }
    return {key: value for key, value in tags.items() if value}


def _status(error: BaseException) -> str:
    """Return MLflow's status for a run that raised.

    It is KILLED after a signal (exit status 128 + its number, or Ctrl-C), and FAILED after any other error.
    """
    by_signal = isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128
    return "KILLED" if by_signal or isinstance(error, KeyboardInterrupt) else "FAILED"


def history_table(history: list[Point]) -> str:
    """Return a CSV with the column `step` and one column per metric, in the order of their first appearance.

    A value that was not logged is an empty field.
    """
    names = list(dict.fromkeys(name for point in history for name in point.metrics))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["step", *names])
    for point in history:
        rows.writerow([point.step, *(repr(point.metrics[name]) if name in point.metrics else "" for name in names)])
    return text.getvalue()


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Convert values to plain numbers. Integers stay integers in the files; numpy and torch scalars become floats."""
    return {name: value if type(value) in (int, float) else float(value) for name, value in metrics.items()}


def _scratch_key(record: RunRecord) -> str:
    facts = [cell_name(record.stage, record.cell), record.params, record.seed, [d.digest for d in record.datasets]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    ours = [name for name in sys.modules if name.startswith("seesay.") and not name.startswith("seesay.tracking")]
    for name in sorted(["__main__", *ours]):  # to look at all modules would copy their memory in a fork
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_file():
            digest.update(file_digest(Path(file)).encode())
    return digest.hexdigest()[:32]
