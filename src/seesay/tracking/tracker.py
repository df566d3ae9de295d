"""Client of the tracker process, through which a stage logs to MLflow without waiting.

All stages of a pipeline run share one tracker process (`tracker_process.py`). It imports mlflow once for a whole
`dvc repro`; a stage only sends it messages from a thread. So training shares neither its interpreter nor its memory
with MLflow, and a killed stage is noticed immediately. A change in the MLflow code does not affect a stage's results.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from seesay.core.errors import redact
from seesay.core.files import private_directory, read_json
from seesay.core.paths import Paths
from seesay.tracking.environment import Process, find_main_repository, find_pipeline_process
from seesay.tracking.records import RunRecord

Message = dict[str, Any]

TIMEOUT_SECONDS = 30.0
"""Longest time that a finished stage waits for MLflow. SEESAY_TRACKING_TIMEOUT overrides it."""


@dataclass(frozen=True)
class Pipeline:
    """The execution that a stage belongs to. `key` identifies it, and its tracker process lives as long as `owner`."""

    key: str
    owner: Process
    is_pipeline: bool


def find_pipeline(root: Path) -> Pipeline:
    """Return the execution of this process: the one in SEESAY_PIPELINE, else DVC's, else one of its own."""
    named, stage = os.environ.get("SEESAY_PIPELINE"), os.environ.get("DVC_STAGE")
    if not named and not stage:
        own = Process.of(psutil.Process())
        return Pipeline(_file_name("single", root, str(own)), own, is_pipeline=False)
    owner = find_pipeline_process()
    identity = named or f"{owner}|{os.environ.get('DVC_EXP_NAME', '')}"
    return Pipeline(_file_name("pipeline", root, identity), owner, is_pipeline=True)


def pipelines_folder(root: Path) -> Path:
    """Return the folder with the state of a repository's executions.

    The executions of its demo and of `dvc exp run --temp` are included.
    """
    return Paths(find_main_repository(root)).scratch / "pipelines"


class Tracker:
    """Sender of a stage's log messages.

    A failure is never raised. `problem` names it, and the first one of an execution is reported on stderr.
    """

    def __init__(self, root: Path, record: RunRecord, pipeline: Pipeline) -> None:
        self.problem: str | None = None
        self.answers: Message = {}
        self._timeout = _timeout()
        self._pipeline, self._folder = pipeline, pipelines_folder(root)
        self._outbox: queue.SimpleQueue[tuple[Message, threading.Event | None]] = queue.SimpleQueue()
        self._held: list[tuple[Message, threading.Event | None]] = []
        own = str(Process.of(psutil.Process()))
        start = {"do": "start", "root": str(root), "record": asdict(record), "pipeline": asdict(pipeline)}
        start |= {"process": own}
        self._outbox.put((start, None))
        threading.Thread(target=self._run, name="seesay-tracker", daemon=True).start()

    def send(self, do: str, **content: Any) -> None:
        """Queue a message and return immediately."""
        self._outbox.put(({"do": do, **content}, None))

    def wait(self, do: str, *, deadline: float, **content: Any) -> bool:
        """Send a message and wait until MLflow has everything up to it. Return false if time runs out first."""
        done = threading.Event()
        self._outbox.put(({"do": do, **content}, done))
        if not done.wait(max(0.0, deadline - time.monotonic())):
            self._give_up(f"no answer within {self._timeout:g} s")
        return self.problem is None

    @property
    def deadline(self) -> float:
        """The time at which a stage that is finished now stops waiting, as `time.monotonic()` gives it."""
        return time.monotonic() + self._timeout

    def _run(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # no exception may reach the stage
            self._give_up(f"the tracker process did not start: {_one_line(error)}")
            connection = None
        while True:
            message, done = self._next()
            if connection is not None and self.problem is None:
                try:
                    try:
                        answer = _ask(connection, message)
                    except (EOFError, OSError):
                        if message["do"] != "start":
                            raise
                        connection = self._connect()  # the process was ending after a long idle time
                        answer = _ask(connection, message)
                    if "error" in answer:
                        self._give_up(answer.pop("error"))
                    self.answers |= answer
                except Exception as error:
                    self._give_up(f"the tracker process is gone: {_one_line(error)}")
            if done is not None:
                done.set()
            if message["do"] == "end":
                if connection is not None:
                    connection.close()
                return

    def _next(self) -> tuple[Message, threading.Event | None]:
        """Return the next message. Consecutive points in the queue are merged into one message."""
        message, done = self._held.pop() if self._held else self._outbox.get()
        while message["do"] == "points" and not self._outbox.empty():
            following = self._outbox.get()
            if following[0]["do"] != "points":
                self._held.append(following)
                break
            message = {"do": "points", "points": message["points"] + following[0]["points"]}
        return message, done

    def _connect(self) -> Connection:
        """Connect to the pipeline's tracker process, and start it if there is none."""
        private_directory(self._folder.parent)
        private_directory(self._folder)
        until = time.monotonic() + self._timeout
        with FileLock(self._folder / f"{self._pipeline.key}.lock", timeout=self._timeout):
            connection = _try_connect(self._folder / f"{self._pipeline.key}.address")
            if connection is not None:
                return connection
            process = self._spawn()
            while time.monotonic() < until:
                connection = _try_connect(self._folder / f"{self._pipeline.key}.address")
                if connection is not None:
                    return connection
                if process.poll() is not None:
                    raise RuntimeError(f"it exited with {process.returncode}; see {self._log}")
                time.sleep(0.02)
        raise TimeoutError(f"not ready within {self._timeout:g} s; see {self._log}")

    @property
    def _log(self) -> Path:
        return self._folder / f"{self._pipeline.key}.log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        owner = self._pipeline.owner
        command = [sys.executable, "-m", "seesay.tracking.tracker_process", str(self._folder), self._pipeline.key]
        with self._log.open("ab") as log:
            # The process gets its own session. Ctrl-C or the end of the process group stops the stages, but the tracker
            # process must survive to report that to MLflow. Its output goes to a file, because a pipe that it holds
            # open would block the reader.
            return subprocess.Popen(
                [*command, str(owner)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _give_up(self, reason: str) -> None:
        if self.problem is not None:
            return
        self.problem = reason
        if self._is_first_to_warn():
            sys.stderr.write(
                f"seesay: warning: MLflow does not record this run ({reason}). "
                "Its results are written all the same; `seesay sync` adds the run later.\n"
            )

    def _is_first_to_warn(self) -> bool:
        """Return whether no stage of this execution has warned yet: a server that stays down costs one warning."""
        try:
            (self._folder / f"{self._pipeline.key}.warned").touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # .work/ cannot be written to
            pass
        return True


def socket_of(path: Path) -> Path | None:
    """Read the address of a tracker process: the path of its socket. Return None if it has not written one."""
    try:
        address = read_json(path)
    except ValueError:
        return None
    return Path(str(address["socket"])) if isinstance(address, dict) and "socket" in address else None


def _try_connect(path: Path) -> Connection | None:
    address = socket_of(path)
    if address is None:
        return None
    try:
        return Client(str(address), "AF_UNIX")
    except (OSError, EOFError):
        return None  # the stale file of a killed process


def _ask(connection: Connection, message: Message) -> Message:
    connection.send_bytes(json.dumps(message).encode())
    answer: Message = json.loads(connection.recv_bytes())
    return answer


def _timeout() -> float:
    try:
        seconds = float(os.environ.get("SEESAY_TRACKING_TIMEOUT", TIMEOUT_SECONDS))
    except ValueError:
        return TIMEOUT_SECONDS
    return TIMEOUT_SECONDS if math.isnan(seconds) else min(seconds, threading.TIMEOUT_MAX / 2)


def _file_name(kind: str, root: Path, identity: str) -> str:
    facts = [identity, str(root), redact(os.environ.get("MLFLOW_TRACKING_URI", ""))]
    return f"{kind}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"


def _one_line(error: BaseException) -> str:
    return redact(f"{type(error).__name__}: {' '.join(str(error).split())}")[:500]
