"""How the bytes behind a URL become a local file, however often the connection breaks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests
from tqdm import tqdm

from seesay.data.byte_streams import Answer, Restart, Transient, Unreachable, open_url
from seesay.files import write_json

T = TypeVar("T")

MAX_FAILURES = 4
"""Failures in a row without one new byte, after which we give up."""
BACKOFF_SECONDS = 1.0
"""The first wait; each further one is twice as long."""


def download(url: str, part: Path) -> bool:
    """Fills `part` with all bytes of `url`, continuing what an earlier call left there; says whether it was continued.

    What has come so far stays in `part` when this raises: `Unreachable` for a URL that gives nothing (more), `OSError`
    where the disk is full or not writable. Nothing here knows what the bytes should be: check them.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if _state(part).get("url") != url:
        discard(part)
    furthest, failures, continued = _size(part), 0, _size(part) > 0
    while True:
        try:
            _continue(url, part)
            return continued
        except Transient as error:
            if isinstance(error, Restart):
                discard(part)
            failures = failures + 1 if _size(part) <= furthest else 1
            furthest, continued = max(furthest, _size(part)), True
            if failures >= MAX_FAILURES:
                raise Unreachable(f"{url}: {error} ({failures} attempts)") from None
            time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))


def discard(part: Path) -> None:
    """Forgets a partial download."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def move_into_place(part: Path, target: Path) -> None:
    """Renames a finished download to `target`; from another file system it is copied beside `target` first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        try:
            part.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with _naming(beside):
                shutil.copyfile(part, beside)
            beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    discard(part)


def read_url(url: str) -> bytes:
    """All bytes of a small file; raises `Unreachable`."""

    def read() -> bytes:
        with open_url(url, 0, None) as answer:
            content = b"".join(answer.chunks)
        if answer.total is not None and len(content) != answer.total:
            raise Transient(f"ended after {len(content)} of {answer.total} bytes")
        return content

    return _retried(url, read)


def progress_bar(**arguments: Any) -> tqdm[Any]:
    """A bar on stderr; where that is no terminal, a line every half minute, none for what takes under ten seconds."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        file=sys.stderr,
        mininterval=0.2 if is_terminal else 30,
        delay=0 if is_terminal else 10,
        leave=False,
        **arguments,
    )


def _continue(url: str, part: Path) -> None:
    state = _state(part)
    if _size(part) > 0 and _size(part) == state.get("total"):
        return
    with open_url(url, _size(part), state.get("validator")) as answer:
        if answer.start and answer.total != state.get("total"):
            raise Restart(f"changed from {state.get('total')} to {answer.total} bytes")
        if not answer.start:
            discard(part)
        _require_space(part, answer)
        with _naming(part):
            write_json(_state_path(part), {"url": url, "validator": answer.validator, "total": answer.total})
            with (
                part.open("ab") as file,
                progress_bar(
                    desc=part.stem, total=answer.total, initial=answer.start, unit="B", unit_scale=True
                ) as bar,
            ):
                for chunk in answer.chunks:
                    file.write(chunk)
                    bar.update(len(chunk))
    if answer.total is not None and _size(part) != answer.total:
        kind = Restart if _size(part) > answer.total else Transient
        raise kind(f"ended after {_size(part)} of {answer.total} bytes")


def _require_space(part: Path, answer: Answer) -> None:
    """Refuses before the first byte what will not fit, rather than filling the disk."""
    needed, free = (answer.total or 0) - answer.start, shutil.disk_usage(part.parent).free
    if needed > free:
        message = f"No space left on device: {needed:,} bytes are to come, {free:,} are free"
        raise OSError(errno.ENOSPC, message, str(part))


def _retried(url: str, call: Callable[[], T]) -> T:
    for failures in range(1, MAX_FAILURES + 1):
        try:
            return call()
        except Transient as error:
            reason = error
        if failures < MAX_FAILURES:
            time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))
    raise Unreachable(f"{url}: {reason} ({MAX_FAILURES} attempts)")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name into an `OSError` that has none: a full disk does not say for which file."""
    try:
        yield
    except requests.RequestException:  # is an OSError, but not about our file
        raise
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict[str, Any]:
    """What is known of a partial download; nothing where that is unreadable."""
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and part.exists() else {}
