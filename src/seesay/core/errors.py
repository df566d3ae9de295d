"""The exception for errors of the user, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Invalid input: the message names the file, key or value and states what was expected.

    The command line prints the message without a traceback and exits with status 1. Any exception other than this one
    and `OSError` is a defect of the program and keeps its traceback.
    """


def did_you_mean(got: object, allowed: Iterable[object]) -> str:
    """Return "; did you mean x?", the end of a message, for the one of `allowed` most like `got`, or "" for none."""
    close = difflib.get_close_matches(str(got), [str(name) for name in allowed], n=1)
    return f"; did you mean {close[0]}?" if close else ""
