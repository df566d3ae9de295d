"""Atomic writing of files: each is written beside its target, then renamed, so that no partial file is ever read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from seesay.core.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it is renamed to `path` when the block ends, or removed if it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None:
            raise
        # The error of a full disk does not name the file. That of numpy ("12 requested and 0 written") does not even
        # mention the disk.
        reason = error.strerror or f"cannot be written whole ({error})"
        raise OSError(error.errno or errno.EIO, reason, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a new directory to fill; it replaces `path` when the block ends, or is removed if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def private_directory(path: Path) -> Path:
    """Create a directory that only its owner can enter, or close an existing one of this user to all others."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def new_socket_directory() -> Path:
    """Create a temporary directory that only its owner can enter, with a path short enough for a Unix socket."""
    parent = tempfile.gettempdir()
    short = len(os.fsencode(parent)) <= 70  # a socket's path has at most 103 bytes on some systems
    return Path(tempfile.mkdtemp(prefix="seesay-", dir=parent if short else "/tmp"))


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_text(path: Path) -> str:
    """Read the text of `path`, with newlines as they are in the file.

    Raises `InputError` if the file is missing or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text; byte {error.start} is not") from None


def read_json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON, line {error.lineno} column {error.colno}: {error.msg}") from None


def file_digest(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
