"""The runner of stage scripts, and the scratch folder from which an interrupted stage resumes.

A stage with one instance per entry of params.yaml takes the entry's name from DVC's variable `DVC_STAGE`, never from
the command in dvc.yaml, so that no name reaches a shell. Invalid input ends a stage with one line and status 1, an
interruption with one line and status 130. A stage also ends when the DVC that started it has been killed.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any


def _resume_line(progress: str) -> str:
    return f"seesay: {progress}; run again to resume"


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os.write(2, f"{_resume_line('interrupted')}\n".encode())
    os._exit(128 + number)


# Stage scripts import this module first. During the imports that follow, here and there, an exception would show as a
# traceback. `run` replaces the handler.
if "DVC_STAGE" in os.environ:
    signal.signal(signal.SIGINT, _end_at_once)

import psutil
from filelock import FileLock, Timeout

from seesay.core.errors import InputError, redact
from seesay.core.files import file_digest, read_json, read_text, write_json, write_text
from seesay.core.forkserver import caller_pid
from seesay.core.paths import Paths, cell_name
from seesay.core.settings import PARAMS_FILE, check_names, read_yaml

_STAGE = "DVC_STAGE"
DVC_PROGRAMS = ("dvc", "dvc.exe", "seesay.jobs", "seesay.tracking.dvc_stages")  # the last two run DVC's command line
_RUNNERS = (*DVC_PROGRAMS, "seesay", "seesay.cli")
_POLL_SECONDS = 0.5
_GRACE_SECONDS = 60.0

PREFIX = "seesay: error: "
"""Begins each line of an error."""

FINISHED_FILE = "finished.json"
ADDRESS_FILE = "address"
LOCK_FILE = "lock"


def run(main: Callable[..., None]) -> None:
    """Call `main(cell)`, or `main()` for a stage without instances.

    The cell is the script's argument or, without one, that of `DVC_STAGE`. The names in params.yaml are checked before
    any path is touched. Exits with status 1 on invalid input, 130 on SIGINT and 143 on SIGTERM.
    """
    takes_cell = "cell" in inspect.signature(main).parameters
    arguments = sys.argv[1:]
    if takes_cell and not arguments:
        # From another folder, DVC writes `../dvc.yaml:stage@cell`. A stage's name has no @.
        arguments = os.environ.get(_STAGE, "").split("@", 1)[1:]
    if len(arguments) != int(takes_cell):
        expected = "one argument, the name of an entry in params.yaml" if takes_cell else "no arguments"
        sys.exit(f"{sys.argv[0]}: expected {expected}, got {arguments}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    end_with(_runners())
    guarded(_run_checked, main, arguments)
    # Everything is written: raise nothing while the interpreter shuts down.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run_checked(main: Callable[..., None], arguments: list[str]) -> None:
    if (params := Path(PARAMS_FILE)).is_file():
        check_names(read_yaml(params), where=PARAMS_FILE)
    main(*arguments)


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run `call`; invalid input and file-system errors end the process with status 1 and a message, not a traceback.

    SEESAY_TRACEBACK=1 keeps the traceback. If the reader of standard output has gone (`| head`), the process ends
    without a message. An interruption ends it with status 128 + the signal's number and one line: the exception's first
    note, which says how far the work had got.
    """
    try:
        result = call(*arguments)
        sys.stdout.flush()
        return result
    except KeyboardInterrupt as error:
        sys.stdout.flush()
        progress = getattr(error, "__notes__", ["interrupted"])[0]
        print(_resume_line(progress), file=sys.stderr)
        sys.exit(128 + (error.args[0] if error.args else signal.SIGINT))
    except (InputError, OSError) as error:
        if os.environ.get("SEESAY_TRACEBACK"):
            raise
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail
            sys.exit(128 + signal.SIGPIPE)
        sys.stdout.flush()
        for line in redact(str(error)).splitlines():
            print(f"{PREFIX}{line}", file=sys.stderr)
        sys.exit(1)


def _reader_has_gone() -> bool:
    """Return whether standard output is a pipe whose reader has closed it."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, so that partial files are removed and the MLflow run is closed."""
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    raise KeyboardInterrupt(number)


def _runners() -> list[psutil.Process]:
    """Return the processes that started this stage: DVC, and `seesay repro` if that started DVC."""
    if "DVC_STAGE" not in os.environ:
        return []
    return [parent for parent in psutil.Process(caller_pid()).parents() if is_program(parent, _RUNNERS)]


def is_program(process: psutil.Process, names: Sequence[str]) -> bool:
    """Return whether a process is one of these programs, run directly or by an interpreter."""
    try:
        return any(Path(word).name in names for word in process.cmdline()[:3])
    except psutil.Error:
        return False


def end_with(runners: Sequence[psutil.Process]) -> None:
    """Terminate this process once one of `runners` has been killed, since nothing then collects its results."""

    def is_gone(runner: psutil.Process) -> bool:
        try:
            return not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def watch() -> None:
        while not any(map(is_gone, runners)):
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    if runners:
        threading.Thread(target=watch, name="seesay-runners", daemon=True).start()


class Scratch:
    """The folder, outside DVC's outputs, with the state from which an interrupted stage resumes.

    One process at a time holds it, until `release`; any other prints that it is waiting. The folder of a finished stage
    stays until its run record is in dvc.lock, because DVC removes the outputs of a stage whose run it has not saved.
    Folders of the same stage for other parameters or other code, from interrupted runs, go when the stage finishes.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self._lock = FileLock(folder / LOCK_FILE)
        has_said = False
        while not self._lock.is_locked:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                if not has_said:
                    print("seesay: waiting for another process that is running this stage", file=sys.stderr)
                    has_said = True
                time.sleep(_POLL_SECONDS)
            except FileNotFoundError:
                pass  # the other process has just removed the folder
        (folder / FINISHED_FILE).unlink(missing_ok=True)
        write_text(folder / ADDRESS_FILE, address)

    def finish(self, root: Path, record: Path) -> None:
        """Mark the folder as that of a finished stage, or remove it if no DVC will save the run."""
        for other in self.folder.parent.glob(f"*/{ADDRESS_FILE}"):
            with contextlib.suppress(InputError, OSError, Timeout):  # Timeout: another process is running it
                if other.parent != self.folder and read_text(other) == self.address:
                    with FileLock(other.with_name(LOCK_FILE), timeout=0):
                        shutil.rmtree(other.parent)
        if os.environ.get("DVC_STAGE") == self.address:
            mark = {"record": record.relative_to(root).as_posix(), "md5": file_digest(record, "md5")}
            write_json(self.folder / FINISHED_FILE, mark)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        self._lock.release()


def remove_saved_scratch(root: Path) -> None:
    """Remove the scratch folders of finished stages whose run DVC has saved, or that have run again since."""
    paths = Paths(root)
    marks = list(paths.scratch.glob(f"*/{FINISHED_FILE}"))
    if not marks:
        return
    saved = read_text(paths.lock) if paths.lock.is_file() else ""
    for mark in marks:
        with contextlib.suppress(InputError, OSError):  # another stage may be removing it
            finished = read_json(mark)
            record = root / finished["record"]
            if finished["md5"] in saved or (record.is_file() and file_digest(record, "md5") != finished["md5"]):
                shutil.rmtree(mark.parent)


def read_stage_json(path: Path, stage: str, cell: str | None) -> Mapping[str, Any]:
    """Read the JSON object in which a stage instance wrote its results.

    Raises `InputError` that names the file and the stage instance if it is missing or invalid.
    """
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(
            f"{error}; expected the results of {cell_name(stage, cell)}, which params.yaml names"
        ) from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a JSON object with the results of {cell_name(stage, cell)}")
    return content
