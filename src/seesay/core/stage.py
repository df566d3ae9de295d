"""The runner of stage scripts: bad input gives one clear line and status 1.

A stage with an instance per entry of params.yaml takes the entry's name from DVC's variable `DVC_STAGE`, never from the
command in dvc.yaml. No name therefore reaches a shell.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import cell_name
from seesay.core.settings import PARAMS_FILE, check_names, read_yaml

_STAGE = "DVC_STAGE"


def run(main: Callable[..., None]) -> None:
    """Call `main(cell)` or `main()`. The cell is the script's argument; without one, it is that of `DVC_STAGE`.

    No path is touched before the names in params.yaml are checked. Exits with status 1 on bad input and 143 on SIGTERM.
    """
    takes_cell = "cell" in inspect.signature(main).parameters
    arguments = sys.argv[1:]
    if takes_cell and not arguments:
        # From another folder, DVC writes `../dvc.yaml:stage@cell`. A stage's name has no @.
        arguments = os.environ.get(_STAGE, "").split("@", 1)[1:]
    if len(arguments) != int(takes_cell):
        expected = "the name of one entry of params.yaml" if takes_cell else "no argument"
        sys.exit(f"{sys.argv[0]}: expected {expected}, got {arguments}")
    # SIGTERM raises an exception, so that half-written files are removed and the MLflow run is closed on exit.
    signal.signal(signal.SIGTERM, _terminate)
    guarded(_run_checked, main, arguments)


def _run_checked(main: Callable[..., None], arguments: list[str]) -> None:
    if (params := Path(PARAMS_FILE)).is_file():
        check_names(read_yaml(params), where=PARAMS_FILE)
    main(*arguments)


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run `call`; bad input and file-system failures end the process with status 1 and no traceback.

    SEESAY_TRACEBACK=1 shows the traceback.
    """
    try:
        return call(*arguments)
    except (InputError, OSError) as error:
        if os.environ.get("SEESAY_TRACEBACK"):
            raise
        sys.stdout.flush()
        for line in str(error).splitlines():
            print(f"seesay: error: {line}", file=sys.stderr)
        sys.exit(1)


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
