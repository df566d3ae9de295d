"""Records of a caption source, raw and prepared: its images, their splits and captions, and access to their pixels."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image

from seesay.arrays import Undecodable, decode_rgb
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, read_json, write_json
from seesay.core.paths import Paths
from seesay.sources.members import MemberReader
from seesay.sources.provenance import SourceNote

SPLITS = ("train", "val", "test")
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RawRecord:
    """One image of an official split ("train", "val" or "test"), with its file and its captions, unchanged."""

    image_id: int
    file_name: str
    archive: str
    split: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class RawRecords:
    """All images of a source, and the names of what does not fit together.

    `has_val` tells if the source has a val split. `set_aside` holds (image id, file name) of the images that the source
    lists and `images` lacks: outside a fetched subset, without a file, or without a caption. The id is 0 if the source
    has no ids.
    """

    images: tuple[RawRecord, ...]
    has_val: bool
    missing_images: tuple[str, ...]
    without_captions: tuple[str, ...]
    in_no_split: tuple[str, ...] = ()
    malformed_captions: tuple[str, ...] = ()
    set_aside: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class CaptionRecord:
    """One image with its captions.

    `file_name` is the path inside `archive`, or inside the raw folder if `archive` is "" (images fetched one by one).
    `width` and `height` are in pixels after decoding; `sha256` is the digest of the image file's bytes.
    """

    image_id: int
    file_name: str
    archive: str
    split: str
    captions: tuple[str, ...]
    width: int
    height: int
    sha256: str = ""


@dataclass(frozen=True)
class CaptionRecords:
    """A caption dataset: records ordered by split (train, val, test), then by image id; `digest` covers all of them."""

    name: str
    records: tuple[CaptionRecord, ...]
    digest: str
    source: SourceNote

    def __len__(self) -> int:
        return len(self.records)

    def of(self, split: str) -> list[CaptionRecord]:
        """Return the records of one split."""
        assert split in SPLITS, split
        return [record for record in self.records if record.split == split]

    def rows(self, split: str) -> list[int]:
        """Return the positions of one split's images in `records`. Features have the same order."""
        assert split in SPLITS, split
        return [row for row, record in enumerate(self.records) if record.split == split]


def collect_records(name: str, records: Sequence[CaptionRecord], source: SourceNote) -> CaptionRecords:
    """Return the dataset of these records, ordered, with their digest."""
    ordered = tuple(sorted(records, key=lambda record: (SPLITS.index(record.split), record.image_id)))
    return CaptionRecords(name, ordered, records_digest(ordered), source)


def records_digest(records: Sequence[CaptionRecord]) -> str:
    """Return the sha256 of the records, which contain the sha256 of their images."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(asdict(record), sort_keys=True, ensure_ascii=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def write_caption_records(folder: Path, captions: CaptionRecords) -> None:
    """Write `records.json` and `manifest.json` (all but the records); both appear or neither."""
    with atomic_directory(folder) as temporary:
        write_json(temporary / "records.json", [asdict(record) for record in captions.records])
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": captions.name,
            "digest": captions.digest,
            "num_images": {split: len(captions.of(split)) for split in SPLITS},
            "source": captions.source.to_json(),
        }
        write_json(temporary / "manifest.json", manifest)


def read_caption_records(folder: Path) -> CaptionRecords:
    """Read a dataset back; raise `InputError` if files are missing, damaged or do not fit together."""
    manifest, path = read_json(folder / "manifest.json"), folder / "records.json"
    advice = "run prepare_captions again"
    if not isinstance(manifest, Mapping) or manifest.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{folder / 'manifest.json'}: expected schema_version {SCHEMA_VERSION}; {advice}")
    values = read_json(path)
    if not isinstance(values, list):
        raise InputError(f"{path}: expected a list of records; {advice}")
    records = tuple(_record(value, f"{path}: record {row}") for row, value in enumerate(values))
    digest = records_digest(records)
    if digest != manifest.get("digest"):
        raise InputError(
            f"{path}: its digest {digest[:12]} is not the manifest's {str(manifest.get('digest'))[:12]}; {advice}"
        )
    source = SourceNote.from_json(manifest.get("source"), where=folder / "manifest.json")
    return CaptionRecords(str(manifest.get("name")), records, digest, source)


@dataclass
class CaptionImages:
    """The images of a dataset by row, decoded on access: `images[row]` is an RGB `PIL.Image`.

    Several threads may share it, and it may be sent to worker processes: each opens its own zip handles.
    """

    folder: Path
    records: tuple[CaptionRecord, ...]
    _reader: MemberReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._reader = MemberReader(self.folder)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> Image.Image:
        record = self.records[row]
        try:
            return decode_rgb(self._reader.read(record.archive, record.file_name)).image
        except Undecodable as error:
            raise InputError(f"{self._where(record)}: not a decodable image ({error})") from None

    def __getstate__(self) -> dict[str, Any]:  # a copy opens its own files: processes must not share handles
        return {"folder": self.folder, "records": self.records}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[row] for row in range(len(self)))

    def _where(self, record: CaptionRecord) -> str:
        archive = f"{self.folder / record.archive}: " if record.archive else f"{self.folder}/"
        return archive + record.file_name


def open_caption_images(captions: CaptionRecords, paths: Paths) -> CaptionImages:
    """Return the dataset's images, by row of `captions.records`, read from its source's raw folder."""
    return CaptionImages(paths.raw_captions(captions.source.name), captions.records)


def shared_images(first: CaptionRecords, second: CaptionRecords) -> list[tuple[CaptionRecord, CaptionRecord]]:
    """Return (val or test image of `first`, training image of `second`) for each pair of files with the same bytes.

    Pairs are in the order of `second`. A re-encoded or resized picture has other bytes and is not detected.
    """
    held_out: dict[str, list[CaptionRecord]] = defaultdict(list)
    for record in (*first.of("val"), *first.of("test")):
        held_out[record.sha256].append(record)
    held_out.pop("", None)  # records without a file
    return [(held, record) for record in second.of("train") for held in held_out.get(record.sha256, [])]


def _record(value: Any, where: str) -> CaptionRecord:
    names = {item.name for item in fields(CaptionRecord)}
    if not isinstance(value, Mapping) or set(value) != names or not isinstance(value["captions"], list):
        raise InputError(f"{where}: expected the keys {', '.join(sorted(names))}; run prepare_captions again")
    if value["split"] not in SPLITS:
        raise InputError(f"{where}: split: got {value['split']!r}: expected one of {', '.join(SPLITS)}")
    return CaptionRecord(**{**value, "captions": tuple(value["captions"])})
