"""How the bytes behind one URL are opened: over http(s) here, anything else through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import requests

from seesay.errors import InputError

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
