"""Importing this module lets `seesay repro`, run by a fork server's `python`, use that server and start none."""

from __future__ import annotations

import contextlib

from seesay.core import forkserver

forkserver.forking_python = contextlib.nullcontext  # type: ignore[assignment]
