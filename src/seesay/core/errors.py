"""The exception for errors of the user, and what messages show of values, URLs and misspelt names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from reprlib import Repr
from typing import Any

_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/?#:@\[]+:(?!\d+(?:[/?#\s]|$))[^\s@]*@)")
_QUERY = re.compile(r"(?<=://)([^\s?#'\"<>]*)[?#][^\s'\"<>]*|\?[\w.%~-]+=[^\s'\"<>)]*")


def redact(text: str) -> str:
    """Return `text` with every URL in it stripped of `user:password@` and of its query and fragment.

    A query without its URL, as in the messages of HTTP libraries, is stripped too.
    """
    if "://" not in text and "?" not in text:
        return text
    return _QUERY.sub(lambda found: found[1] or "", _USERINFO.sub("", text))


def shorten(value: Any) -> str:
    """Return the representation of a value, cut before it is formatted: nested values may expand without bound."""
    if isinstance(value, int) and value.bit_length() > 300:
        return f"a number of {value.bit_length()} bits"
    text = _SHORT.repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


class InputError(ValueError):
    """Invalid input: the message names the file, key or value and states what was expected.

    The command line prints the message without a traceback and exits with status 1. Any exception other than this one
    and `OSError` is a defect of the program and keeps its traceback. Credentials in URLs are removed from the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class _Redacted(Repr):
    """Removes credentials before it cuts a text in the middle, where they could no longer be told."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(redact(x), level)


_SHORT = _Redacted()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 2, 4, 4, 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120


def did_you_mean(got: object, allowed: Iterable[object]) -> str:
    """Return "; did you mean x?", the end of a message, for the one of `allowed` most like `got`, or "" for none."""
    close = difflib.get_close_matches(str(got), [str(name) for name in allowed], n=1)
    return f"; did you mean {close[0]}?" if close else ""
