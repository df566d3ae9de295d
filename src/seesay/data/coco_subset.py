"""Which of COCO's images a seeded subset holds."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesay.errors import InputError
from seesay.seeding import numpy_generator

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
        """Where it lies: in a raw folder, in a mirror, and inside the official archive."""
        return f"{self.split}/{self.file_name}"


def choose_images(
    offered: Mapping[str, Sequence[CocoImage]], *, num_images: int, seed: int
) -> dict[str, list[CocoImage]]:
    """A seeded subset with each split's share of the whole and at least one of each; a larger one holds the smaller.

    Raises `InputError` for more images than there are, or fewer than one of each split.
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
    """The images each split's captions speak of, by id."""
    offered = {}
    for split in SPLITS:
        member = f"annotations/captions_{split}.json"
        try:
            with zipfile.ZipFile(annotations) as archive:
                entries: list[Any] = json.loads(archive.read(member))["images"]
            images = [(int(e["id"]), CocoImage(split, str(e["file_name"]), str(e["coco_url"]))) for e in entries]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{annotations}: not a readable zip archive: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{annotations}: {member}: not COCO's captions: {error}") from None
        for _, image in images:
            if Path(image.file_name).name != image.file_name:
                raise InputError(f"{annotations}: {member}: file_name: got {image.file_name!r}: expected a bare name")
        offered[split] = [image for _, image in sorted(images, key=lambda pair: pair[0])]
    return offered
