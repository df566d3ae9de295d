"""The ledger of a workspace: its pipeline runs in MLflow, with one line per stage.

One execution at a time owns it, so that no sync describes a pipeline that is still running. A workspace has an
identity, so that clones that share an MLflow server do not write into each other's ledger.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock, Timeout

from seesay.core.errors import InputError, redact
from seesay.core.files import private_directory, read_json, write_json
from seesay.core.paths import Paths
from seesay.tracking.dvc_stages import Instance, read_instances
from seesay.tracking.environment import find_main_repository, lock_digest, workspace_name
from seesay.tracking.mlflow_runs import end_run
from seesay.tracking.records import RunRecord, now_ms, read_record
from seesay.tracking.store import PIPELINE, Store, experiment_id, read_prefix

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

WORKSPACE_TAG = "seesay.workspace_id"
WAIT_SECONDS = 10.0
"""Time after which a command gives up waiting for the ledger. A sync takes seconds, a pipeline perhaps days."""


@contextmanager
def own_ledger(root: Path) -> Iterator[None]:
    """Hold the ledger of a workspace. A process that holds it may enter again: `seesay repro` ends with a sync.

    Raises `InputError`, naming the other process and its command, if another one holds it for `WAIT_SECONDS` or if a
    DVC command is running.
    """
    folder = private_directory(Paths(root.resolve()).scratch)  # one name, so that a process knows its own lock
    holder = folder / "ledger.json"
    lock = FileLock(folder / "ledger.lock", timeout=WAIT_SECONDS, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        other = _read(holder)
        raise _busy(root, other.get("pid"), other.get("command")) from None
    try:
        if lock.lock_counter == 1:
            with _dvc_at_rest(root):
                pass
            write_json(holder, {"pid": os.getpid(), "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])})
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Snapshot:
    """State of a workspace at one moment, at which DVC was not at work in it.

    `records` holds the run record of each instance that has one. This includes stages that are not in dvc.lock: a
    failed gate has run, but DVC does not record it there.
    """

    taken_ms: int
    lock_digest: str
    instances: list[Instance]
    records: dict[str, RunRecord]


def take_snapshot(root: Path) -> Snapshot:
    """Return the state of the workspace. Raise `InputError`, naming the process, if a DVC command is changing it."""
    with _dvc_at_rest(root):
        instances = read_instances(root)
        records = {i.address: record for i in instances if (record := _record_of(root, i)) is not None}
        return Snapshot(now_ms(), lock_digest(root), instances, records)


def _record_of(root: Path, instance: Instance) -> RunRecord | None:
    """Return an instance's run record, or None if it is missing or was written by another version of seesay."""
    try:
        return read_record(Paths(root).run_record(instance.stage, instance.cell))
    except InputError:
        return None


@contextmanager
def _dvc_at_rest(root: Path) -> Iterator[None]:
    """Hold DVC's own lock for a moment. Raise `InputError`, naming the process, if a DVC command is running.

    DVC releases the lock while a stage runs. The files of that stage are then listed in `rwlock`, with the process
    that runs it. What killed processes have left there is removed: DVC would take a zombie, or a later process with
    the same id, for a running command and refuse to run the stage.
    """
    folder = root / ".dvc/tmp"
    if not folder.is_dir():
        yield
        return
    from dvc.lock import LockError, make_lock

    path, stages = folder / "lock", folder / "rwlock"
    try:
        with make_lock(str(path), tmp_dir=str(folder)):
            entries = _read(stages)
            held = [
                *entries.get("write", {}).values(),
                *(one for all_ in entries.get("read", {}).values() for one in all_),
            ]
            for one in held:
                if _has_run_since(one["pid"], stages.stat().st_mtime):
                    raise _busy(root, one["pid"], one["cmd"])
            stages.unlink(missing_ok=True)
            yield
    except LockError:
        text = path.read_text(errors="replace").strip()
        raise _busy(root, int(text) if text.isdigit() else None, None) from None


def _has_run_since(pid: int, seconds: float) -> bool:
    """Return whether the process that wrote a file at a time (in seconds since 1970) still runs."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= seconds + 1
    except psutil.NoSuchProcess:
        return False


def _busy(root: Path, pid: int | None, command: str | None) -> InputError:
    if pid is not None and command is None:
        try:
            command = " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            command = None
    who = f"`{command or 'another command'}`" + ("" if pid is None else f" (process {pid})")
    return InputError(f"{root}: {who} is running in this workspace: wait until it has ended, and try again")


def workspace_identity(root: Path) -> str:
    """Return the identity of a workspace, which survives a move of its repository and differs between clones.

    It is made once per repository and stored in `.work/`, which git does not clone. A copy of the folder notices that
    the original still exists, and gets an identity of its own.
    """
    main = find_main_repository(root)
    folder = private_directory(Paths(main).scratch)
    path = folder / "workspace.json"
    with FileLock(folder / "workspace.lock", timeout=WAIT_SECONDS):
        known = _read(path)
        if known.get("path") != str(main):
            is_copy = _is_another_copy(path, known)
            known = {"id": known["id"] if known and not is_copy else uuid.uuid4().hex[:12], "path": str(main)}
            write_json(path, known)
    name = workspace_name(root)
    return str(known["id"]) if name == "." else f"{known['id']}/{name}"


def _is_another_copy(path: Path, known: dict[str, Any]) -> bool:
    original = Path(known.get("path", "")) / ".work" / path.name
    return bool(known) and not _same_file(original, path) and _read(original).get("id") == known["id"]


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)  # one folder may have two names, such as that of a bind mount
    except OSError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one if there is none."""
    try:
        content = read_json(path)
    except (InputError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class PipelineRun:
    """State shared by the stages of one execution, stored in `.work/pipelines/<key>.json` and protected by a lock."""

    client: MlflowClient
    store: Store
    folder: Path
    key: str

    @property
    def _state(self) -> Path:
        return self.folder / f"{self.key}.json"

    def _lock(self) -> FileLock:
        return FileLock(self.folder / f"{self.key}.run.lock", timeout=60)

    def begin_stage(self, root: Path, *, started_ms: int, tags: Mapping[str, str]) -> str:
        """Set the pipeline run to RUNNING and return its id. The first stage creates it."""
        with self._lock():
            state = self._read()
            if state is not None and self._exists(state["run_id"]):
                self.client.update_run(state["run_id"], status="RUNNING")
                return str(state["run_id"])
            run_id = create_pipeline_run(
                self.client, self.store, root, started_ms=started_ms, tags={**tags, "seesay.pipeline_key": self.key}
            )
            write_json(self._state, {"store": redact(self.store.uri), "run_id": run_id, "failed": False})
            return run_id

    def end_stage(self, *, failed: bool, ended_ms: int) -> None:
        """End the pipeline run with this stage, so that a plain `dvc repro` leaves no run in the state RUNNING."""
        with self._lock():
            state = self._read()
            if state is None:
                return
            if failed and not state["failed"]:
                state["failed"] = True
                write_json(self._state, state)
            status = "FAILED" if state["failed"] else "FINISHED"
            end_run(self.client, state["run_id"], status=status, ended_ms=ended_ms)

    def _read(self) -> dict[str, Any] | None:
        if not self._state.is_file():
            return None
        state: dict[str, Any] = read_json(self._state)
        return state if state["store"] == redact(self.store.uri) else None

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False  # the store was deleted meanwhile


def create_pipeline_run(
    client: MlflowClient, store: Store, root: Path, *, started_ms: int, tags: Mapping[str, str], verb: str = "repro"
) -> str:
    """Create a pipeline run in the state RUNNING, named after DVC's experiment or its start time, and return its id."""
    experiment = os.environ.get("DVC_EXP_NAME", "")
    when = datetime.fromtimestamp(started_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
    own = {
        "mlflow.source.name": "dvc.yaml",
        "mlflow.source.type": "PROJECT",
        "seesay.workspace": workspace_name(root),
        WORKSPACE_TAG: workspace_identity(root),
        "dvc.exp_name": experiment,
        "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "dvc.lock_sha256_at_start": lock_digest(root),
    }
    run = client.create_run(
        experiment_id(client, store, read_prefix(root) + PIPELINE),
        start_time=started_ms,
        tags={**{key: value for key, value in own.items() if value}, **tags},
        run_name=experiment or f"{verb} {when}",
    )
    return str(run.info.run_id)
