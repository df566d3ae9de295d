"""Atomic writing of files: each is written beside its target, then renamed, so that no partial file is ever read."""

from __future__ import annotations

import codecs
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from seesay.core.errors import InputError

LEFT_SECONDS = 24 * 3600
"""Age from which an unfinished file or folder counts as left by a process that was killed."""

_UMASK = os.umask(0o077)  # read once: it can be read only by setting it, for all threads
os.umask(_UMASK)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it is renamed to `path` when the block ends, or removed if it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.touch(mode=0o600, exist_ok=False)  # inside: an interruption may come as soon as the file is there
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
        _remove_left_siblings(path, path.stem, path.suffix)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        # A person knows `path`. The error of a full disk names no file, and that of numpy ("12 requested and 0
        # written") does not even mention the disk.
        reason = error.strerror or f"cannot be written whole ({error})"
        raise OSError(error.errno or errno.EIO, reason, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a new directory to fill; it replaces `path` when the block ends, or is removed if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        temporary.chmod(0o777 & ~_UMASK)
        _replace_directory(temporary, path)
        _remove_left_siblings(path, path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_left_siblings(path: Path, stem: str, suffix: str = "") -> None:
    """Remove what processes that were killed while they wrote `path` have left beside it a day ago or earlier."""
    for one in path.parent.glob(glob.escape(f".{stem}.") + "[0-9a-f]" * 8 + glob.escape(suffix)):
        with suppress(OSError):  # another process may be removing it
            if time.time() - one.lstat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()


def _replace_directory(new: Path, path: Path) -> None:
    """Move `new` to `path`; what was there is removed afterwards, or put back where that fails."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.exists():
            path.rename(aside)
        new.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def require_own_directory(path: Path, names: Collection[str]) -> None:
    """Raise `InputError` if replacing the directory `path` would remove files of other names than these."""
    if path.is_symlink() or path.is_file() or (path.is_dir() and {one.name for one in path.iterdir()} - set(names)):
        raise InputError(f"{path}: expected a new folder, or one with no more than {', '.join(sorted(names))}")
    _try_beside(path, where=str(path))


def require_writable(path: Path, *, option: str) -> None:
    """Raise `InputError`, which names `option`, if no file can be written at `path`; called before costly work."""
    if path.is_dir():
        raise InputError(f"{option}: {path}: is a folder; expected a file")
    _try_beside(path, where=f"{option}: {path}")


def _try_beside(path: Path, *, where: str) -> None:
    """Raise `InputError` if nothing can be written beside `path`; folders that are missing can be made."""
    try:
        with tempfile.TemporaryFile(dir=next(folder for folder in path.absolute().parents if folder.exists())):
            pass
    except OSError as error:
        raise InputError(f"{where}: cannot be written: {error.strerror}") from None


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
    """Read the text of `path`, with newlines as they are in the file and without a byte order mark.

    Raises `InputError` if the file is missing or not UTF-8.
    """
    try:
        return decode_text(path.read_bytes(), where=path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a file, got a folder") from None


def decode_text(content: bytes, *, where: Path | str) -> str:
    """Decode UTF-8, without a byte order mark; raises `InputError`, naming `where`, for any other encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{where}: expected UTF-8 text, got UTF-16; save it as UTF-8")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected UTF-8 text; byte {error.start} is not; save it as UTF-8") from None


def read_json(path: Path) -> Any:
    return parse_json(read_text(path), where=path)


def parse_json(text: str, *, where: Path | str) -> Any:
    """Parse JSON; half a surrogate pair, which no file can hold, becomes U+FFFD. Raises `InputError` naming `where`."""
    try:
        content = json.loads(text)
        return _without_surrogates(content) if _SURROGATE.search(text) else content
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{where}: not readable JSON: nested too deeply") from None
    except ValueError:  # Python refuses numbers of more than 4,300 digits
        raise InputError(f"{where}: not readable JSON: a number has too many digits") from None


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def file_digest(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
