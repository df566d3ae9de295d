"""What a mirror holds: a folder or URL with files under their official names and a `SHA256SUMS`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seesay.data.byte_streams import Unreachable, exists
from seesay.data.downloads import read_url
from seesay.errors import InputError

SUMS_FILE = "SHA256SUMS"


@dataclass(frozen=True)
class Mirror:
    """`location` as the user gave it; `root` as a URL; `sums`: file name to sha256, what the mirror says it holds."""

    location: str
    root: str
    sums: Mapping[str, str]

    def url_of(self, name: str) -> str:
        return f"{self.root}/{name}"

    def lists(self, name: str) -> bool:
        """Whether the mirror offers a file; raises `InputError` for one that lies there without a sum."""
        if name in self.sums:
            return True
        if exists(self.url_of(name)):
            raise InputError(
                f"{self.location}: {name} is there, but {SUMS_FILE} does not list it: it cannot be checked"
            )
        return False


def open_mirror(location: str) -> Mirror:
    """The mirror at a folder or an http(s), s3 or file URL; raises `InputError` for an unreadable `SHA256SUMS`."""
    if "://" in location:
        root = location.rstrip("/")
    else:
        folder = Path(location).expanduser().resolve()
        if not folder.is_dir():
            raise InputError(
                f"MIRROR={location}: no such folder ({folder}); expected a folder or an http(s), s3 or file URL"
            )
        root = f"file://{folder.as_posix()}"
    try:
        content = read_url(f"{root}/{SUMS_FILE}")
    except Unreachable as error:
        raise InputError(f"MIRROR={location}: cannot read its {SUMS_FILE}: {error}") from None
    return Mirror(location=location, root=root, sums=parse_sums(content, where=f"{location}/{SUMS_FILE}"))


def parse_sums(content: bytes, *, where: str) -> dict[str, str]:
    """File name to sha256, of the lines that `sha256sum` writes; raises `InputError` naming the first wrong line."""
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+?)\r?", line)
        if match is None:
            raise InputError(f"{where}: line {number}: got {line[:100]!r}: expected '<64 hex digits>  <file name>'")
        sums[match[2]] = match[1].lower()
    return sums
