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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import requests
from tqdm import tqdm

from seesay.core.errors import InputError
from seesay.core.files import write_json

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


TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect; between two packets."""
CHUNK_BYTES = 1 << 16
"""What is lost when a connection breaks."""
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}


class Unreachable(InputError):  # noqa: N818  # what is true of the URL
    """A URL gives no bytes, now and after retries; the message names it."""


class Transient(Exception):  # noqa: N818  # never leaves downloads.py
    """Worth another try."""


class Restart(Transient):
    """The bytes that are here already are no beginning of what the server has now."""


@dataclass(frozen=True)
class Answer:
    """Bytes of a URL from `start` on. `total` is the whole file's size, `validator` its version; None where untold."""

    chunks: Iterator[bytes]
    start: int
    total: int | None
    validator: str | None


@contextmanager
def open_url(url: str, start: int, validator: str | None) -> Iterator[Answer]:
    """The bytes of `url` from `start` on, or from 0 where the server cannot or the file is no longer `validator`.

    Raises `Transient` for what may pass, `Unreachable` for what will not; both also while the bytes are read.
    """
    opened = _open_http(url, start, validator) if _is_http(url) else _open_file(url, start, validator)
    with opened as answer:
        yield answer


@contextmanager
def _open_http(url: str, start: int, validator: str | None) -> Iterator[Answer]:
    headers = {"Accept-Encoding": "identity"}  # else sizes and ranges would count compressed bytes
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator  # the whole file comes (status 200) if it has changed
    with _http_errors(url), requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code in TRANSIENT_STATUSES:
            raise Transient(f"answered {response.status_code} {response.reason}")
        if response.status_code == 416:  # what we have is longer than what there is
            raise Restart("is shorter than what an earlier attempt left")
        if not response.ok:
            raise Unreachable(f"{url}: answered {response.status_code} {response.reason}")
        length = response.headers.get("Content-Length")
        first, total = 0, int(length) if length is not None else None
        if response.status_code == 206:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            if first != start:
                raise Restart("answered another range than the one asked for")
        yield Answer(response.iter_content(CHUNK_BYTES), first, total, _http_validator(response))


@contextmanager
def _open_file(url: str, start: int, validator: str | None) -> Iterator[Answer]:
    with backend_errors(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        info = filesystem.info(path)
        found = str(info.get("ETag") or info.get("mtime") or info.get("LastModified"))
        first = start if found == validator and start <= info["size"] else 0
        file = filesystem.open(path, "rb", block_size=1 << 22)
    with file:
        file.seek(first)

        def read() -> Iterator[bytes]:
            while True:
                with backend_errors(url):
                    chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

        yield Answer(read(), first, info["size"], found)


@contextmanager
def _http_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Transient(_reason(error)) from None
    except requests.RequestException as error:
        raise Unreachable(f"{url}: {_reason(error)}") from None


@contextmanager
def backend_errors(url: str) -> Iterator[None]:
    """fsspec's backends (s3, ...) each raise exceptions of their own: whatever they say, this URL gave no bytes."""
    try:
        yield
    except FileNotFoundError:
        raise Unreachable(f"{url}: no such file") from None
    except ImportError as error:
        raise Unreachable(f"{url}: {error}") from None
    except (TimeoutError, ConnectionError) as error:
        raise Transient(_reason(error)) from None
    except Exception as error:
        raise Unreachable(f"{url}: {_reason(error)}") from None


def exists(url: str) -> bool:
    """Whether there is a file behind `url`."""
    if _is_http(url):
        try:
            response = requests.head(url, allow_redirects=True, timeout=TIMEOUT_SECONDS)
        except requests.RequestException:
            return False
        return response.ok
    with backend_errors(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        return bool(filesystem.isfile(path))


def _reason(error: Exception) -> str:
    """The innermost message, without the tower of wrappers and memory addresses around it."""
    innermost: Any = error
    while getattr(innermost, "args", None) and isinstance(innermost.args[0], Exception):
        innermost = innermost.args[0]
    innermost = getattr(innermost, "reason", None) or innermost
    return str(innermost).rsplit(">: ", 1)[-1] or type(error).__name__


def _http_validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    # A weak ETag must not stand in If-Range (RFC 9110, 13.1.5); a date may.
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _content_range(header: str) -> tuple[int, int | None]:
    """(first byte, size of the whole) of `bytes 5-9/10`; (-1, None) for anything else."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        return -1, None
    return int(first), int(total) if total.isdigit() else None


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))
