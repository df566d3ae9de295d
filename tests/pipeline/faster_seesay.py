"""Importing this module makes seesay start no second fork server, and read params.yaml faster.

`seesay repro`, run by a fork server's `python`, uses that server. A params.yaml that is JSON, which is YAML too, is
parsed as JSON.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from seesay.core import forkserver, settings

_load = settings._load


def _load_quickly(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else _load(text)


forkserver.forking_python = contextlib.nullcontext  # type: ignore[assignment]
settings._load = _load_quickly  # type: ignore[assignment]
