"""Splits by a user-supplied file in Karpathy's format (dataset_coco.json).

Karpathy and Fei-Fei (2015), https://cs.stanford.edu/people/karpathy/deepimagesent: `{"images": [{"filename": ...,
"split": "train" | "restval" | "val" | "test", "cocoid": ..., "sentences": [...]}, ...]}`. Captions come from the
source, not from this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seesay.captioning.data.records import RawRecord, RawRecords
from seesay.core.errors import InputError, shorten
from seesay.core.files import decode_text, parse_json
from seesay.params.datasets import LocalFile
from seesay.sources.local import LOCAL, local_path, local_source_file, read_checked
from seesay.sources.members import normal_name
from seesay.sources.provenance import SourceFile

ROLES = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""Our split for each of the file's. restval is the rest of COCO's val, which Karpathy adds to the training data."""


@dataclass(frozen=True)
class KarpathySplit:
    """Splits by COCO's image id for images that have one in the file, by file name for the others.

    `names` are the file names of the images in `by_id`; `file` is the note of the split file.
    """

    by_id: Mapping[int, str]
    by_name: Mapping[str, str]
    names: Mapping[int, str]
    file: SourceFile

    def __len__(self) -> int:
        return len(self.by_id) + len(self.by_name)

    def of(self, image_id: int, file_name: str) -> str | None:
        """Return the split of an image, or None if the file does not name it."""
        return self.by_id.get(image_id) or self.by_name.get(_last_part(file_name))

    def report(self) -> dict[str, Any]:
        """Return the entry of the data report."""
        return {"file": self.file.name, "sha256": self.file.sha256, "num_images_named": len(self)}


def read_karpathy_split(file: LocalFile, *, key: str, root: Path) -> KarpathySplit:
    """Read a user-supplied split file; raise `InputError` if its checksum differs or an entry is invalid."""
    path = local_path(file.path, root)
    content = read_checked(path, file.checksum, key=key)
    parsed = parse_json(decode_text(content, where=path), where=path)
    entries = parsed.get("images") if isinstance(parsed, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected an object with the list images, as in Karpathy's dataset_coco.json")
    by_id: dict[int, str] = {}
    by_name: dict[str, str] = {}
    names: dict[int, str] = {}
    for position, entry in enumerate(entries):
        where = f"{path}: images[{position}]"
        name, split, coco_id = _parse_entry(entry, where)
        if coco_id is None:
            image, first_split = name, by_name.setdefault(name, split)
        else:
            image, first_split = f"cocoid {coco_id}", by_id.setdefault(coco_id, split)
            names[coco_id] = name
        if first_split != split:
            raise InputError(f"{where}: {image} is in {first_split} as well as in {split}")
    return KarpathySplit(by_id, by_name, names, local_source_file(path, f"{LOCAL}{path.name}", file.checksum))


def apply_karpathy_split(raw: RawRecords, splits: KarpathySplit) -> RawRecords:
    """Return the images that the file names, in its splits.

    Images that it names and the source lacks are missing images. Images that it does not name are in no split.
    """
    images: list[RawRecord] = []
    unnamed: list[str] = []
    for image in raw.images:
        split = splits.of(image.image_id, image.file_name)
        if split is None:
            unnamed.append(image.file_name)
        else:
            images.append(replace(image, split=split))
    known = [(image.image_id, image.file_name) for image in raw.images] + list(raw.set_aside)
    known_ids, known_names = {image_id for image_id, _ in known}, {_last_part(name) for _, name in known}
    absent = [f"{splits.file.name}: {splits.names[image_id]}" for image_id in splits.by_id.keys() - known_ids]
    absent += [f"{splits.file.name}: {name}" for name in splits.by_name.keys() - known_names]
    return replace(
        raw,
        images=tuple(images),
        has_val=True,
        missing_images=(*raw.missing_images, *sorted(absent)),
        in_no_split=(*raw.in_no_split, *sorted(unnamed)),
    )


def _parse_entry(entry: Any, where: str) -> tuple[str, str, int | None]:
    """Return (file name, our split, COCO's id or None) of one image."""
    values = entry if isinstance(entry, Mapping) else {}
    name, split, coco_id = values.get("filename"), values.get("split"), values.get("cocoid")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: filename: got {shorten(name)}: expected a file name")
    if not isinstance(split, str) or split not in ROLES:
        raise InputError(f"{where}: split: got {shorten(split)}: expected one of {', '.join(ROLES)}")
    if coco_id is not None and type(coco_id) is not int:
        raise InputError(f"{where}: cocoid: got {shorten(coco_id)}: expected a whole number")
    return _last_part(name), ROLES[split], coco_id


def _last_part(name: str) -> str:
    return normal_name(name).rsplit("/", 1)[-1]
