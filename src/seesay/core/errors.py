"""The exception for errors of the user, and the redaction of credentials in messages."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/?#]*|[^\s/@:]+:[^\s@]*)@")
_SECRETS = re.compile(
    r"([?&][\w.-]*(?:auth|credential|key|passw|pwd|secret|sig|token)[\w.-]*=)[^\s&#'\"]+", re.IGNORECASE
)


class InputError(ValueError):
    """Invalid input: the message names the file, key or value and states what was expected.

    The command line prints the message without a traceback and exits with status 1. Any exception other than this one
    and `OSError` is a defect of the program and keeps its traceback.
    """


def redact_url(text: str) -> str:
    """Return `text` in which each URL has `***` instead of its user, password and secret query parameters."""
    return _SECRETS.sub(r"\1***", _CREDENTIALS.sub("***@", text))
