"""Which copy of an official file is taken, and whether it is right: the one here, the mirror's, the official one."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from seesay.data.byte_streams import Unreachable
from seesay.data.downloads import discard, download, move_into_place
from seesay.data.mirrors import SUMS_FILE, Mirror
from seesay.data.sources import SourceFile, SourceNote
from seesay.errors import InputError
from seesay.params.datasets import Archive


@dataclass(frozen=True)
class FileDigests:
    sha256: str
    md5: str
    num_bytes: int


def fetch_archive(
    archive: Archive, folder: Path, *, mirror: Mirror | None, scratch: Path, earlier: SourceNote | None
) -> SourceFile:
    """Brings one file into `folder` under its official name and says what it is.

    In this order: a right file that is there already (the official one, the mirror's, or without a mirror the one that
    the `earlier` note names); the mirror's, where it has one; the official one. Raises `InputError` for a file that
    hashes to something else, and `Unreachable` naming the file, the mirror and the URL where nobody has it.
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
                failures.append(f"the mirror {mirror.location} lists it but does not give it: {error}")
        else:
            failures.append(f"the mirror {mirror.location} has no such file")
    try:
        return _source_file(archive, _fetch(archive.url, target, part, archive.checksum, "params.yaml"))
    except Unreachable as error:
        failures.append(f"the official URL gives nothing: {error}")
        hint = "" if mirror else "; MIRROR=<folder or URL> names a place that has it"
        raise Unreachable(f"cannot fetch {archive.name}: {'; '.join(failures)}{hint}") from None


def file_digests(path: Path) -> FileDigests:
    """sha256 and md5 of a file in one pass over it."""
    sha256, md5, num_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
            num_bytes += len(chunk)
    return FileDigests(sha256.hexdigest(), md5.hexdigest(), num_bytes)


def agrees(checksum: str, found: FileDigests) -> bool:
    """Whether a file is what `md5:`, `sha256:` or `sha256-prefix:` says."""
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
    else:  # nobody asked for another one than the last time
        is_accepted = noted is not None and noted.sha256 == found.sha256 and noted.expected_checksum == archive.checksum
    return _source_file(archive, found) if is_accepted or agrees(archive.checksum, found) else None


def _fetch(url: str, target: Path, part: Path, checksum: str, authority: str) -> FileDigests:
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):  # two stages may want the same file
        was_continued = download(url, part)
        found = file_digests(part)
        if was_continued and not agrees(checksum, found):  # perhaps glued together from two versions: once more, whole
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
            f"({archive.checksum}); results made from it will say so"
        )
    return SourceFile(archive.name, archive.url, found.sha256, found.num_bytes, archive.checksum, is_substitute)


def warn(message: str) -> None:
    sys.stderr.write(f"seesay: warning: {message}\n")
