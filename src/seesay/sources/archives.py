"""Selection and verification of a copy of an official file: the local one, the mirror's or the official one."""

from __future__ import annotations

import hashlib
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock

from seesay.core.errors import InputError, redact
from seesay.params.datasets import Archive
from seesay.sources.http import Unreachable, discard, download, exists, move_into_place, read_url
from seesay.sources.provenance import SourceFile, SourceNote


@dataclass(frozen=True)
class FileDigests:
    sha256: str
    md5: str
    num_bytes: int


def fetch_archive(
    archive: Archive, folder: Path, *, mirror: Mirror | None, scratch: Path, earlier: SourceNote | None
) -> SourceFile:
    """Fetch one file into `folder` under its official name and return its description.

    The candidates are tried in this order:
    1. a correct file that is already present: the official one, the mirror's, or, without a mirror, the one named in
       the `earlier` note;
    2. the mirror's file, if the mirror has one;
    3. the official file.

    Raises `InputError` for a file with a different hash. Raises `Unreachable`, naming the file, the mirror and the URL,
    if the file is not available anywhere.
    """
    target = folder / archive.name
    kept = _kept(archive, target, mirror=mirror, earlier=earlier)
    if kept is not None:
        return kept
    part = scratch / "downloads" / f"{archive.name}.part"
    failures: list[str] = []
    if mirror is not None:
        if mirror.lists(archive.name):
            try:
                found = _fetch(
                    mirror.url_of(archive.name), target, part, f"sha256:{mirror.sums[archive.name]}", SUMS_FILE
                )
                return _source_file(archive, found)
            except Unreachable as error:
                failures.append(f"the mirror {mirror.location} lists it but cannot deliver it: {error}")
        else:
            failures.append(f"the mirror {mirror.location} has no such file")
    try:
        return _source_file(archive, _fetch(archive.url, target, part, archive.checksum, "params.yaml"))
    except Unreachable as error:
        failures.append(f"the official URL is unreachable: {error}")
        hint = "" if mirror else "; MIRROR=<folder or URL> names a place that has it"
        raise Unreachable(f"cannot fetch {archive.name}: {'; '.join(failures)}{hint}") from None


def file_digests(path: Path) -> FileDigests:
    """Compute the sha256 and md5 of a file in one pass."""
    sha256, md5, num_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
            num_bytes += len(chunk)
    return FileDigests(sha256.hexdigest(), md5.hexdigest(), num_bytes)


def agrees(checksum: str, found: FileDigests) -> bool:
    """Return whether a file matches a checksum of the form `md5:`, `sha256:` or `sha256-prefix:`."""
    kind, _, expected = checksum.partition(":")
    return {
        "md5": found.md5 == expected,
        "sha256": found.sha256 == expected,
        "sha256-prefix": found.sha256.startswith(expected),
    }[kind]


def _kept(archive: Archive, target: Path, *, mirror: Mirror | None, earlier: SourceNote | None) -> SourceFile | None:
    if not target.is_file():
        return None
    found = file_digests(target)
    noted = earlier.file(archive.name) if earlier else None
    if mirror is not None and archive.name in mirror.sums:
        is_accepted = found.sha256 == mirror.sums[archive.name]
    else:  # the same file is requested as last time
        is_accepted = noted is not None and noted.sha256 == found.sha256 and noted.expected_checksum == archive.checksum
    return _source_file(archive, found) if is_accepted or agrees(archive.checksum, found) else None


def _fetch(url: str, target: Path, part: Path, checksum: str, authority: str) -> FileDigests:
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):  # two stages may fetch the same file
        was_continued = download(url, part)
        found = file_digests(part)
        if was_continued and not agrees(checksum, found):  # may mix two versions: download it again, whole
            discard(part)
            download(url, part)
            found = file_digests(part)
        if not agrees(checksum, found):
            discard(part)
            raise InputError(
                f"{url}: got {found.num_bytes:,} bytes with sha256 {found.sha256} (md5 {found.md5}): "
                f"{authority} says {checksum}; the download was cut short or the file has changed"
            )
        move_into_place(part, target)
    return found


def _source_file(archive: Archive, found: FileDigests) -> SourceFile:
    is_substitute = not agrees(archive.checksum, found)
    if is_substitute:
        warn(
            f"{archive.name} is a substitute: its sha256 {found.sha256[:12]}... is not the official file's "
            f"({archive.checksum}); results based on it will say so"
        )
    return SourceFile(archive.name, redact(archive.url), found.sha256, found.num_bytes, archive.checksum, is_substitute)


def warn(message: str) -> None:
    sys.stderr.write(f"seesay: warning: {redact(message)}\n")


SUMS_FILE = "SHA256SUMS"


@dataclass(frozen=True)
class Mirror:
    """A mirror of official files.

    `location` is the mirror as the user named it and `root` is its URL. `sums` maps each file name that the mirror
    lists to its sha256.
    """

    location: str
    root: str
    sums: Mapping[str, str]

    def url_of(self, name: str) -> str:
        return f"{self.root}/{name if self.root.startswith('s3://') else quote(name)}"

    def lists(self, name: str) -> bool:
        """Return whether the mirror lists a file; raises `InputError` for a file that exists but is not listed."""
        if name in self.sums:
            return True
        if exists(self.url_of(name)):
            raise InputError(
                f"{self.location}: {name} exists, but {SUMS_FILE} does not list it, so it cannot be verified"
            )
        return False


def open_mirror(location: str) -> Mirror:
    """Open the mirror at a folder or an http(s), s3 or file URL.

    Raises `InputError` for an unreadable `SHA256SUMS`.
    """
    if "://" in location:
        root = location.rstrip("/")
    else:
        folder = Path(location).expanduser().resolve()
        if not folder.is_dir():
            raise InputError(
                f"MIRROR={location}: no such folder ({folder}); expected a folder or an http(s), s3 or file URL"
            )
        root = folder.as_uri()
    try:
        content = read_url(f"{root}/{SUMS_FILE}")
    except Unreachable as error:
        raise InputError(f"MIRROR={location}: cannot read its {SUMS_FILE}: {error}") from None
    return Mirror(location=location, root=root, sums=parse_sums(content, where=f"{location}/{SUMS_FILE}"))


def parse_sums(content: bytes, *, where: str) -> dict[str, str]:
    """Parse the output of `sha256sum` into a mapping from file name to sha256.

    Raises `InputError` naming the first invalid line.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(
        content.removeprefix(BOM_UTF8).decode("utf-8", errors="replace").split("\n"), start=1
    ):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+?)\r?", line)
        if match is None:
            raise InputError(f"{where}: line {number}: got {line[:100]!r}: expected '<64 hex digits>  <file name>'")
        sums[match[2]] = match[1].lower()
    return sums
