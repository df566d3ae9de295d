"""Download of a subset of COCO's images one by one, instead of in 19 GB of archives."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import fsspec

from seesay.arrays import Undecodable, decode_rgb
from seesay.core.errors import InputError, redact
from seesay.core.files import parse_json, write_bytes, write_json
from seesay.params.datasets import CocoSource
from seesay.seeding import numpy_generator
from seesay.sources.archives import SUMS_FILE, Mirror, agrees, file_digests, warn
from seesay.sources.http import backend_errors, local_file, progress_bar, read_url, retried
from seesay.sources.members import ZipMembers
from seesay.sources.provenance import SourceFile

MAX_FAILED_IMAGES = 10
"""Fetching stops after this many failures: the network is down, or the mirror is not what it claims to be."""


def fetch_coco_images(source: CocoSource, folder: Path, *, mirror: Mirror | None) -> list[SourceFile]:
    """Fetch a subset of `source.num_images` images into `<folder>/train2017/` and `val2017/`, in parallel.

    Each image comes from the mirror, as a single file or else out of its archive. Otherwise it comes from its
    `coco_url`. Images that are already present and decode are kept, so a second call continues the first. Returns one
    summary per split and writes the names to `subset.json`. Raises `InputError` naming the images that are not
    available anywhere or that do not decode.
    """
    assert source.num_images is not None
    assert source.num_images_seed is not None, "the settings ensure this"
    assert source.num_workers is not None
    offered = read_offered(folder / source.annotations.name)
    chosen = choose_images(offered, num_images=source.num_images, seed=source.num_images_seed)
    images = [image for split in SPLITS for image in chosen[split]]
    with ExitStack() as stack:
        origins = _Origins(mirror, {split: _mirrored_archive(mirror, split, source, stack) for split in SPLITS})
        is_substitute = any(map(origins.is_substitute, images)) or _was_substitute(folder)
        # Written before the first image, so that the next call does not take files of an interrupted one for official.
        names = {split: [image.file_name for image in chosen[split]] for split in SPLITS}
        write_json(folder / SUBSET_FILE, {"images": names, "is_substitute": is_substitute})
        _fetch_all(images, folder, origins, num_workers=source.num_workers)
    _remove_others(folder, chosen)
    if is_substitute:
        warn("single COCO images come from a mirror: they are substitutes, as there are no official hashes for them")
    return [_summary(folder, split, chosen[split], is_substitute=is_substitute) for split in SPLITS]


def forget_coco_images(folder: Path) -> None:
    """Remove single images of an earlier choice when the archives are requested now."""
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    (folder / SUBSET_FILE).unlink(missing_ok=True)


@dataclass(frozen=True)
class _MirroredArchive:
    archive: ZipMembers
    url: str
    is_official: bool


@dataclass(frozen=True)
class _Origins:
    """The origins of single images; read from several threads."""

    mirror: Mirror | None
    archives: Mapping[str, _MirroredArchive | None]

    def is_substitute(self, image: CocoImage) -> bool:
        archive = self._archive_with(image)
        return self._has_single(image) or (archive is not None and not archive.is_official)

    def read(self, image: CocoImage) -> bytes:
        """Return an image's bytes; raises `InputError` if it is not available anywhere or cannot be decoded."""
        archive = self._archive_with(image)
        if self.mirror is not None and self._has_single(image):
            origin = self.mirror.url_of(image.member)
            content = read_url(origin)
            if hashlib.sha256(content).hexdigest() != self.mirror.sums[image.member]:
                raise InputError(f"{origin}: its sha256 is not the one in the mirror's {SUMS_FILE}")
        elif archive is not None:
            origin = f"{archive.url}: {image.member}"
            content = retried(archive.url, lambda: _read_member(archive, image.member))
        else:
            origin = image.coco_url
            content = read_url(origin)
        reason = _decoding_error(content)
        if reason is not None:
            raise InputError(f"{origin}: not a whole image: {reason}")
        return content

    def _has_single(self, image: CocoImage) -> bool:
        return self.mirror is not None and image.member in self.mirror.sums

    def _archive_with(self, image: CocoImage) -> _MirroredArchive | None:
        mirrored = self.archives[image.split]
        return mirrored if mirrored is not None and image.member in mirrored.archive.names else None


def _fetch_all(images: Sequence[CocoImage], folder: Path, origins: _Origins, *, num_workers: int) -> None:
    def fetch(image: CocoImage) -> str | None:
        path = folder / image.member
        if path.is_file() and _decoding_error(path.read_bytes()) is None:
            return None
        try:
            write_bytes(path, origins.read(image))
        except InputError as error:
            return f"{image.member}: {error}"
        return None

    failures = []
    with ThreadPoolExecutor(num_workers) as pool, progress_bar(desc="COCO images", total=len(images)) as bar:
        try:
            for failure in pool.map(fetch, images):
                bar.update()
                failures += [failure] if failure else []
                if len(failures) >= MAX_FAILED_IMAGES:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    if failures:
        which = f"at least {len(failures)}" if len(failures) >= MAX_FAILED_IMAGES else str(len(failures))
        listed = "\n".join(failures)
        raise InputError(f"{which} of {len(images)} images cannot be fetched; the others are kept\n{listed}")


def _mirrored_archive(
    mirror: Mirror | None, split: str, source: CocoSource, stack: ExitStack
) -> _MirroredArchive | None:
    """Open a split's archive in the mirror in place; a local one is first checked against the mirror's sums."""
    name = f"{split}.zip"
    if mirror is None or name not in mirror.sums:
        return None
    url, is_official = mirror.url_of(name), False
    path = local_file(url)
    if path is not None:
        if not path.is_file():
            raise InputError(f"{path}: no such file, although {SUMS_FILE} lists it")
        found = file_digests(path)
        if found.sha256 != mirror.sums[name]:
            raise InputError(f"{url}: has sha256 {found.sha256}: {SUMS_FILE} says {mirror.sums[name]}")
        official = next((archive for archive in source.image_archives if archive.name == name), None)
        is_official = official is not None and agrees(official.checksum, found)
    archive = retried(url, lambda: _open_archive(url))  # not read whole: each member's CRC-32 must suffice
    return _MirroredArchive(stack.enter_context(archive), url, is_official)


def _open_archive(url: str) -> ZipMembers:
    path = local_file(url)
    if path is not None:
        return ZipMembers(path)
    with backend_errors(url):
        return ZipMembers(redact(url), fsspec.open(url, "rb").open())


def _read_member(archive: _MirroredArchive, member: str) -> bytes:
    with backend_errors(archive.url):
        return archive.archive.read(member)


def _decoding_error(content: bytes) -> str | None:
    try:
        decode_rgb(content)
    except Undecodable as error:
        return str(error)
    return None


def _was_substitute(folder: Path) -> bool:
    """Return whether the images left here by an earlier call came from a mirror."""
    if not any((folder / split).is_dir() for split in SPLITS):
        return False
    try:
        return bool(json.loads((folder / SUBSET_FILE).read_text(encoding="utf-8"))["is_substitute"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _remove_others(folder: Path, chosen: Mapping[str, Sequence[CocoImage]]) -> None:
    for split in SPLITS:
        names = {image.file_name for image in chosen[split]}
        for path in (folder / split).iterdir():
            if path.name not in names:
                path.unlink()


def _summary(folder: Path, split: str, images: Sequence[CocoImage], *, is_substitute: bool) -> SourceFile:
    """Return one entry for all images of a split: count, total size, and a sha256 over their names and sha256s."""
    digest, num_bytes = hashlib.sha256(), 0
    for image in images:
        content = (folder / image.member).read_bytes()
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {image.member}\n".encode())
        num_bytes += len(content)
    url = redact(images[0].coco_url).rsplit("/", 1)[0]
    return SourceFile(f"{split}/ ({len(images)} images)", url, digest.hexdigest(), num_bytes, "", is_substitute)


SPLITS = ("train2017", "val2017")
SUBSET_FILE = "subset.json"
"""In the raw folder: `{"images": {"train2017": ["000000000009.jpg", ...], "val2017": [...]}, "is_substitute": ...}`."""


@dataclass(frozen=True)
class CocoImage:
    split: str
    file_name: str
    coco_url: str

    @property
    def member(self) -> str:
        """The image's path in a raw folder, in a mirror and in the official archive."""
        return f"{self.split}/{self.file_name}"


def choose_images(
    offered: Mapping[str, Sequence[CocoImage]], *, num_images: int, seed: int
) -> dict[str, list[CocoImage]]:
    """Choose a seeded subset in which each split has its share of the whole, and at least one image.

    With the same seed, a larger subset contains the smaller ones. Raises `InputError` for more images than there are,
    or for fewer than one per split.
    """
    total = sum(len(images) for images in offered.values())
    if not len(SPLITS) <= num_images <= total:
        raise InputError(f"num_images: got {num_images}: the annotations allow {len(SPLITS)} to {total}")
    train, val = (len(offered[split]) for split in SPLITS)
    num_val = min(max(round(num_images * val / total), 1, num_images - train), num_images - 1, val)
    chosen = {}
    for split, count in zip(SPLITS, (num_images - num_val, num_val), strict=True):
        order = numpy_generator(seed, "coco", split).permutation(len(offered[split]))[:count]
        chosen[split] = [offered[split][position] for position in sorted(order)]
    return chosen


def read_offered(annotations: Path) -> dict[str, list[CocoImage]]:
    """Read the images that each split's captions describe, sorted by id."""
    offered = {}
    for split in SPLITS:
        member = f"annotations/captions_{split}.json"
        try:
            with ZipMembers(annotations) as archive:
                content = parse_json(archive.read_text(member), where=f"{annotations}: {member}")
            images = [
                (int(e["id"]), CocoImage(split, str(e["file_name"]), str(e["coco_url"]))) for e in content["images"]
            ]
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{annotations}: {member}: not in the format of COCO's captions: {error}") from None
        for _, image in images:
            if Path(image.file_name).name != image.file_name:
                raise InputError(f"{annotations}: {member}: file_name: got {image.file_name!r}: expected a bare name")
        offered[split] = [image for _, image in sorted(images, key=lambda pair: pair[0])]
    return offered
