"""Whether a file of a person's own is the one that params.yaml means, and how it is noted."""

from __future__ import annotations

from pathlib import Path

from seesay.data.sources import SourceFile
from seesay.errors import InputError
from seesay.files import file_digest

LOCAL = "local:"
"""Begins the `url` of a file that came from this machine; its own name follows, never where it lay."""


def local_path(path: str, root: Path) -> Path:
    """Where a path of params.yaml leads: as it is, or from `root`."""
    return (root / Path(path).expanduser()).resolve()


def read_checked(path: Path, checksum: str, *, key: str) -> bytes:
    """The bytes of a person's file; raises `InputError` naming `key` in params.yaml where it is missing or another."""
    if not path.is_file():
        raise InputError(f"params.yaml: {key}.path: {path}: no such file")
    require_checksum(path, checksum, key=key, named=path)
    return path.read_bytes()


def require_checksum(content: Path, checksum: str, *, key: str, named: Path) -> None:
    """Raises `InputError` where `content`, brought here from `named`, is not what `checksum` says."""
    found = f"sha256:{file_digest(content)}"
    if found != checksum:
        raise InputError(
            f"params.yaml: {key}.checksum: expected {checksum}, but {named} has {found}; "
            "if this is the content that you mean, write its checksum there"
        )


def local_source_file(path: Path, url: str, checksum: str = "") -> SourceFile:
    """The note of a file that lies at `path`; `checksum` is what params.yaml gives, "" where it gives none."""
    return SourceFile(path.name, url, file_digest(path), path.stat().st_size, checksum, False)
