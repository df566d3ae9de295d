"""Tracker process: it writes the messages of one execution's stages to MLflow and ends after the execution.

Run as `python -m seesay.tracking.tracker_process <state folder> <pipeline key> <owner process>`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from seesay.core.errors import redact
from seesay.core.files import new_socket_directory, write_json
from seesay.tracking import mlflow_runs
from seesay.tracking.dvc_stages import compute_stage_hash
from seesay.tracking.environment import Process, find_main_repository
from seesay.tracking.ledger import PipelineRun
from seesay.tracking.records import ArtifactFile, DatasetUse, Point, RunRecord, now_ms
from seesay.tracking.store import (
    PIPELINE,
    Store,
    describe_problem,
    experiment_id,
    experiment_name,
    locate_store,
    open_client,
    read_prefix,
)
from seesay.tracking.tracker import socket_of

POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
"""Time that a tracker process waits for its first stage."""
IDLE_SECONDS = 120.0
"""Time that it waits for the next stage. A later stage starts another process."""
SILENT_SECONDS = 30.0
"""Time that it waits for the first message of a connection, and for the rest of any message."""
MAX_MESSAGE_BYTES = 2**28
KEPT_SECONDS = 30 * 24 * 3600.0


class TrackerProcess:
    """A server on a Unix socket in a folder that only this user can enter, so that it needs no key.

    Each connection has its own thread. One that is silent or sends something else is closed, and disturbs no other.
    """

    def __init__(self, folder: Path, key: str, owner: Process) -> None:
        self.folder, self.key, self.owner = folder, key, owner
        self.address = folder / f"{key}.address"
        self._open_connections = 0
        self._last_used = time.monotonic()
        self._change = threading.Lock()

    def serve(self) -> None:
        """Serve until the execution's process has ended and the last stage has been written to MLflow."""
        _forget_old_files(self.folder)
        _remove_socket(self.address)  # of a killed process
        own = new_socket_directory() / "socket"
        listener = Listener(str(own), "AF_UNIX", backlog=16)
        write_json(self.address, {"socket": str(own)})
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        while not self._is_done():
            time.sleep(POLL_SECONDS)
        if socket_of(self.address) == own:
            self.address.unlink(missing_ok=True)
        listener.close()
        own.parent.rmdir()

    def _is_done(self) -> bool:
        with self._change:
            idle = time.monotonic() - self._last_used
            if self._open_connections or idle < GRACE_SECONDS:
                return False
            return idle > IDLE_SECONDS or self.owner.is_gone

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return
            with self._change:
                self._open_connections += 1
            threading.Thread(target=self._serve_stage, args=(connection,)).start()

    def _serve_stage(self, connection: Connection) -> None:
        session, connected = Session(self.folder), time.monotonic()
        try:
            _limit_reads(connection)
            while not session.has_ended:
                if not connection.poll(POLL_SECONDS):
                    is_silent = not session.has_started and time.monotonic() - connected > SILENT_SECONDS
                    if session.stage_is_gone or is_silent:
                        break
                    continue
                message = json.loads(connection.recv_bytes(MAX_MESSAGE_BYTES))
                connection.send_bytes(json.dumps(_answer(session, message)).encode())
        except (EOFError, OSError, ValueError):
            pass  # the stage has ended, or it is no stage
        finally:
            try:
                session.abandon()
            except Exception:
                _print_exception()
            connection.close()
            with self._change:
                self._open_connections -= 1
                self._last_used = time.monotonic()


def _answer(session: Session, message: dict[str, Any]) -> dict[str, Any]:
    try:
        return session.handle(message)
    except Exception as error:  # the stage prints it as a warning and continues without MLflow
        _print_exception()
        return {"error": session.describe(error)}


def _print_exception() -> None:
    sys.stderr.write(redact(traceback.format_exc()))


def _limit_reads(connection: Connection) -> None:
    """Let a read fail if the rest of a message does not arrive within `SILENT_SECONDS`."""
    with socket.socket(fileno=os.dup(connection.fileno())) as options:
        options.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(SILENT_SECONDS), 0))


def _remove_socket(address: Path) -> None:
    """Remove the socket and its folder that a killed tracker process has left."""
    left = socket_of(address)
    if left is not None:
        with contextlib.suppress(OSError):
            left.unlink(missing_ok=True)
            left.parent.rmdir()


def _forget_old_files(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another tracker process may remove it at the same time
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                _remove_socket(path)
                path.unlink()


def main() -> None:
    folder, key, owner = sys.argv[1:]
    TrackerProcess(Path(folder), key, Process.parse(owner)).serve()


ATTEMPTS = 4
"""Number of attempts per message. With several writers, SQLite sometimes reports that the database is locked."""


class Session:
    """The connection of one stage.

    `handle` processes each message. `abandon` is called at the end, in case the run is still open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.has_ended = False
        self._process: Process | None = None
        self._run_id: str | None = None
        self._pipeline: PipelineRun | None = None
        self._store: Store | None = None
        self._wanted: dict[str, Any] = {}

    def describe(self, error: Exception) -> str:
        """Return one line about an exception, with the store if it is known."""
        if self._store is not None:
            return describe_problem(self._store, error)
        return redact(f"{type(error).__name__}: {' '.join(str(error).split())}")[:500]

    @property
    def has_started(self) -> bool:
        return self._process is not None

    @property
    def stage_is_gone(self) -> bool:
        return self._process is not None and self._process.is_gone

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """Process a message and return the answer. MLflow's exceptions are passed on."""
        do = message.pop("do")
        handler = getattr(self, f"_{do}")
        for attempt in range(ATTEMPTS):
            try:
                answer: dict[str, Any] = handler(**message) or {}
                return answer
            except Exception as error:
                if "database is locked" not in str(error) or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.5 * (attempt + 1))
        raise AssertionError("unreachable")

    def abandon(self) -> None:
        """Close a run that is still open: as its stage wanted, if it could say so, or else as killed."""
        if not self.has_ended and self._run_id is not None:
            self._end(**(self._wanted or {"status": "KILLED", "ended_ms": now_ms()}))

    def _start(self, *, root: str, record: dict[str, Any], pipeline: dict[str, Any], process: str) -> dict[str, Any]:
        self._process = Process.parse(process)
        workspace, run = Path(root), RunRecord(**record)
        store = self._store = locate_store(find_main_repository(workspace))
        client = self._client = open_client(store)
        name = experiment_name(workspace, run.stage)
        experiment = experiment_id(client, store, name)
        above = experiment_id(client, store, read_prefix(workspace) + PIPELINE)
        mlflow_runs.close_dead_runs(client, list({experiment, above}))
        parent = None
        if pipeline["is_pipeline"]:
            self._pipeline = PipelineRun(client, store, self.folder, pipeline["key"])
            owner = {"seesay.process": str(Process(**pipeline["owner"]))}
            inherited = {k: v for k, v in run.tags.items() if k.startswith(("git.", "dvc.exp"))} | run.environment
            parent = self._pipeline.begin_stage(workspace, started_ms=run.started_ms, tags={**inherited, **owner})
        live = {"seesay.process": process}
        self._run_id = mlflow_runs.start_run(client, experiment, run, parent=parent, tags=live)
        found = {"run_id": self._run_id, "experiment": name, "pipeline_run_id": parent}
        return found | self._stage_hash(workspace, run)

    def _stage_hash(self, workspace: Path, run: RunRecord) -> dict[str, Any]:
        """Log DVC's stage hash as a tag and return it. Outside a DVC project there is none."""
        if not (workspace / "dvc.yaml").is_file():
            return {}
        try:
            stage_hash = compute_stage_hash(workspace, run.address)
        except Exception:  # a failure of DVC must not stop tracking: the run continues without this tag
            _print_exception()
            return {}
        self._tags(tags={"dvc.stage_hash": stage_hash})
        return {"stage_hash": stage_hash}

    def _points(self, *, points: list[dict[str, Any]]) -> None:
        mlflow_runs.log_points(self._client, self._id, [Point(**point) for point in points])

    def _dataset(self, *, dataset: dict[str, Any]) -> None:
        use = DatasetUse(**dataset)
        mlflow_runs.log_datasets(self._client, self._id, [use])
        self._tags(tags=mlflow_runs.dataset_tags([use]))

    def _artifacts(self, *, root: str, artifacts: list[dict[str, Any]]) -> None:
        mlflow_runs.log_artifacts(self._client, self._id, Path(root), [ArtifactFile(**a) for a in artifacts])

    def _tags(self, *, tags: dict[str, str]) -> None:
        mlflow_runs.set_tags(self._client, self._id, tags)

    def _results(self, *, record: dict[str, Any]) -> None:
        """Log everything that is known only at the end of a run."""
        run = RunRecord(**record)
        run.history = [Point(**point) for point in record["history"]]
        run.datasets = [DatasetUse(**use) for use in record["datasets"]]
        run.models = [ArtifactFile(**model) for model in record["models"]]
        mlflow_runs.log_results(self._client, self._id, run)
        self._tags(tags=mlflow_runs.dataset_tags(run.datasets) | mlflow_runs.model_tags(run.models))

    def _end(self, *, status: str, ended_ms: int) -> None:
        self._wanted = {"status": status, "ended_ms": ended_ms}
        mlflow_runs.end_run(self._client, self._id, status=status, ended_ms=ended_ms)
        if self._pipeline is not None:
            self._pipeline.end_stage(failed=status != "FINISHED", ended_ms=ended_ms)
        self.has_ended = True

    @property
    def _id(self) -> str:
        assert self._run_id is not None, "a stage sends start first"
        return self._run_id


if __name__ == "__main__":
    main()
