"""Download of a URL to a local file, resumed whenever the connection breaks."""

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
from urllib.parse import unquote

import fsspec
import requests
import urllib3
from tqdm import tqdm

from seesay.core.errors import InputError, redact
from seesay.core.files import write_json

T = TypeVar("T")

MAX_FAILURES = 4
"""The number of consecutive failures without a new byte after which a download is abandoned."""
BACKOFF_SECONDS = 1.0
"""The wait after the first failure; each further wait is twice as long."""


MAX_READ_BYTES = 1 << 28
"""The largest file that `read_url` keeps in memory, 256 MiB."""


def download(url: str, part: Path) -> bool:
    """Download all bytes of `url` to `part`, continuing from what an earlier call left there.

    Returns whether the download was continued. Raises `Unreachable` for a URL that delivers no (more) bytes, and
    `OSError` if the disk is full or not writable. The bytes received until then stay in `part`. The content is not
    verified here: callers must check it.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if _state(part).get("url") != redact(url):
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
    """Delete a partial download and its state."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def move_into_place(part: Path, target: Path) -> None:
    """Rename a finished download to `target`; from another file system it is first copied beside `target`."""
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
    """Return all bytes of a small file; raises `Unreachable` if they cannot be read."""

    def read() -> bytes:
        with open_url(url, 0, None) as answer:
            content = bytearray()
            for chunk in answer.chunks:
                content += chunk
                if len(content) > MAX_READ_BYTES:
                    raise Unreachable(f"{url}: has more than the {MAX_READ_BYTES:,} bytes allowed")
        if answer.total is not None and len(content) != answer.total:
            raise Transient(f"ended after {len(content)} of {answer.total} bytes")
        return bytes(content)

    return retried(url, read)


def progress_bar(**arguments: Any) -> tqdm[Any]:
    """Return a progress bar on stderr.

    If stderr is not a terminal, it prints a line every half minute, and none for what takes under ten seconds.
    """
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
            write_json(_state_path(part), {"url": redact(url), "validator": answer.validator, "total": answer.total})
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
    """Raise `OSError` before the first byte if the file does not fit on the disk."""
    needed, free = (answer.total or 0) - answer.start, shutil.disk_usage(part.parent).free
    if needed > free:
        message = f"No space left on device: {needed:,} bytes are needed, {free:,} are free"
        raise OSError(errno.ENOSPC, message, str(part))


def retried(url: str, call: Callable[[], T]) -> T:
    """Return `call()`, tried again where it raises `Transient`; raises `Unreachable` after `MAX_FAILURES` attempts."""
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
    """Add the file's name to an `OSError` that has none: the error of a full disk does not name the file."""
    try:
        yield
    except requests.RequestException:  # is an OSError, but does not concern this file
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
    """Read the state of a partial download; empty if it is missing or unreadable."""
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and part.exists() else {}


TIMEOUT_SECONDS = (10.0, 60.0)
"""The timeouts for connecting and between two packets."""
CHUNK_BYTES = 1 << 16
"""The size of one read: at most this much is lost when a connection breaks."""
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}


class Unreachable(InputError):  # noqa: N818  # names the state of the URL
    """A URL delivers no bytes, even after retries; the message names the URL."""


class Transient(Exception):  # noqa: N818  # names the kind of failure
    """A failure that may pass: another attempt is worthwhile."""


class Restart(Transient):
    """The bytes received earlier are not the beginning of the server's current file."""


@dataclass(frozen=True)
class Answer:
    """The bytes of a URL from `start` on.

    `total` is the size of the whole file and `validator` its version. Each is None if the server does not state it.
    """

    chunks: Iterator[bytes]
    start: int
    total: int | None
    validator: str | None


@contextmanager
def open_url(url: str, start: int, validator: str | None) -> Iterator[Answer]:
    """Open `url` from byte `start` on, or from 0 if the server cannot do so or the version is no longer `validator`.

    Raises `Transient` for failures that may pass and `Unreachable` for those that will not. Both can also be raised
    while the bytes are read.
    """
    opened = _open_http(url, start, validator) if _is_http(url) else _open_file(url, start, validator)
    with opened as answer:
        yield answer


@contextmanager
def _open_http(url: str, start: int, validator: str | None) -> Iterator[Answer]:
    headers = {"Accept-Encoding": "identity"}  # otherwise sizes and ranges would count compressed bytes
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator  # if the file has changed, it is sent whole (status 200)
    with _http_errors(url), requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code in TRANSIENT_STATUSES:
            raise Transient(f"answered {response.status_code} {response.reason}")
        if response.status_code == 416:  # the partial file is longer than the server's
            raise Restart("is shorter than the partial file of an earlier attempt")
        if not response.ok:
            raise Unreachable(f"{url}: answered {response.status_code} {response.reason}")
        length = response.headers.get("Content-Length")
        first, total = 0, int(length) if length is not None and length.isdecimal() else None
        if response.status_code == 206:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            if first != start:
                raise Restart("answered with a different range than requested")
        yield Answer(response.iter_content(CHUNK_BYTES), first, total, _http_validator(response))


@contextmanager
def _open_file(url: str, start: int, validator: str | None) -> Iterator[Answer]:
    with backend_errors(url):
        filesystem, path = fsspec.core.url_to_fs(_decoded(url))
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
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        raise Unreachable(f"{url}: {_reason(error)}") from None


@contextmanager
def backend_errors(url: str) -> Iterator[None]:
    """Translate exceptions of fsspec's backends (s3, ...): each has its own, and all mean that `url` gave no bytes.

    Raises `Transient` for time-outs and broken connections, and `Unreachable` for everything else.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise Unreachable(f"{url}: no such file") from None
    except ImportError as error:
        raise Unreachable(f"{url}: {error}") from None
    except (TimeoutError, ConnectionError) as error:
        raise Transient(_reason(error)) from None
    except Exception as error:
        raise Unreachable(f"{url}: {_reason(error)}") from None


def exists(url: str) -> bool:
    """Return whether there is a file at `url`."""
    if _is_http(url):
        try:
            response = requests.head(url, allow_redirects=True, timeout=TIMEOUT_SECONDS)
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError):
            return False
        return response.ok

    def is_file() -> bool:
        with backend_errors(url):
            filesystem, path = fsspec.core.url_to_fs(_decoded(url))
            return bool(filesystem.isfile(path))

    return retried(url, is_file)


def local_file(url: str) -> Path | None:
    """Return the path of a file URL, which may be percent-encoded; None for any other URL."""
    return Path(_decoded(url).removeprefix("file://")) if url.startswith("file://") else None


def _decoded(url: str) -> str:
    """Return a URL as fsspec takes it: it does not decode the path of a file URL, and knows no host in one."""
    return (
        "file://" + unquote(url.removeprefix("file://").removeprefix("localhost")) if url.startswith("file://") else url
    )


def _reason(error: Exception) -> str:
    """Return the innermost message of an error, without its wrappers and their memory addresses."""
    innermost: Any = error
    while getattr(innermost, "args", None) and isinstance(innermost.args[0], Exception):
        innermost = innermost.args[0]
    innermost = getattr(innermost, "reason", None) or innermost
    return str(innermost).rsplit(">: ", 1)[-1] or type(error).__name__


def _http_validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    # If-Range must not contain a weak ETag (RFC 9110, 13.1.5); a date is allowed.
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _content_range(header: str) -> tuple[int, int | None]:
    """Parse `bytes 5-9/10` into (first byte, size of the whole file); return (-1, None) for anything else."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        return -1, None
    return int(first), int(total) if total.isdigit() else None


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))
