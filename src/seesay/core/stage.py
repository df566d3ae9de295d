"""The runner of stage scripts: the only argument is the cell, and bad input gives one clear line and status 1."""

from __future__ import annotations

import inspect
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import cell_name


def run(main: Callable[..., None]) -> None:
    """Call `main(cell)` or `main()` with the arguments of the command line.

    Exits with status 1 on bad input and 143 on SIGTERM.
    """
    takes_cell = "cell" in inspect.signature(main).parameters
    arguments = sys.argv[1:]
    if len(arguments) != int(takes_cell):
        expected = "the name of one entry of params.yaml" if takes_cell else "no argument"
        sys.exit(f"{sys.argv[0]}: expected {expected}, got {arguments}")
    # SIGTERM raises an exception, so that half-written files are removed and the MLflow run is closed on exit.
    signal.signal(signal.SIGTERM, _terminate)
    guarded(main, *arguments)


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run `call`; bad input and file-system failures end the process with status 1 and no traceback.

    A reader of the output that has gone, such as `| head`, ends it quietly. SEESAY_TRACEBACK=1 shows the traceback.
    """
    try:
        result = call(*arguments)
        sys.stdout.flush()
        return result
    except (InputError, OSError) as error:
        if os.environ.get("SEESAY_TRACEBACK"):
            raise
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail
            sys.exit(128 + signal.SIGPIPE)
        sys.stdout.flush()
        for line in str(error).splitlines():
            print(f"seesay: error: {line}", file=sys.stderr)
        sys.exit(1)


def _reader_has_gone() -> bool:
    """Return whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def read_stage_json(path: Path, stage: str, cell: str | None) -> Mapping[str, Any]:
    """Read the JSON object written by a stage instance.

    Raises `InputError` naming the file and the stage instance if there is none.
    """
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: the results of {cell_name(stage, cell)}, which params.yaml names") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: the results of {cell_name(stage, cell)}: expected a JSON object")
    return content
