"""Decoding of an archive's images to RGB at one size, and duplicates among them: exact ones and near ones."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from PIL import Image

from seesay.arrays import Undecodable, decode_rgb
from seesay.images.packed import SPLITS, PackedImages
from seesay.images.pixels import transform_of
from seesay.sources.members import ZipMembers


@dataclass(frozen=True)
class ListedImage:
    """An image of an archive by name, the split that the source gives it (`train`, `val` or `test`), and its class.

    Images of one `group` stay in one split; "" is no group.
    """

    member: str
    split: str
    wnid: str
    group: str = ""


@dataclass(frozen=True)
class DecodedImage:
    """One image, whose pixels are in `row` of all decoded ones. If decoding failed, `error` says why."""

    example: Example
    row: int
    mode: str
    size: str
    file_sha256: str
    error: str = ""


def decode_all(
    archive: ZipMembers, listed: Sequence[ListedImage], pixels: np.ndarray, *, top: str
) -> list[DecodedImage]:
    """Decode every listed image once, in the given order; `top` is the folder in the archive that they lie in.

    `pixels`, uint8 (len(listed), image_size, image_size, 3), is filled, with zeros where decoding fails.
    """

    def decode(row: int) -> DecodedImage:
        return _decode(archive.read(top + listed[row].member), listed[row], pixels, row)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL and hashlib release the GIL
        return list(pool.map(decode, range(len(listed))))


def _decode(content: bytes, listed: ListedImage, pixels: np.ndarray, row: int) -> DecodedImage:
    file_sha256 = hashlib.sha256(content).hexdigest()
    member, split, wnid = listed.member, listed.split, listed.wnid
    try:
        rgb, mode = decode_rgb(content)
    except Undecodable as error:
        return DecodedImage(Example(member, split, wnid, ""), row, "", "", file_sha256, str(error))
    pixels[row] = transform_of(pixels.shape[1]).pixels(rgb)
    content_sha256 = hashlib.sha256(pixels[row].tobytes()).hexdigest()
    size = f"{rgb.width}x{rgb.height}"
    return DecodedImage(Example(member, split, wnid, content_sha256), row, mode, size, file_sha256)


RULE = (
    "Two images are the same when their decoded pixels (RGB, at the dataset's image size) have the same sha256. "
    "The test split is the official one and is never changed. "
    "A training image that is the same as a test image is left out. "
    "A picture that sits in two or more training classes is left out of all of them. "
    "Of a picture that sits in one training class more than once, the first (by file number) is kept. "
    "Only the classes of the subset are compared."
)

FOLDER_RULE = (
    "Two images are the same when their decoded pixels (RGB, at the dataset's image size) have the same sha256. "
    "Splits that the source gives come first: an image that is the same as one of test is left out of train and val, "
    "and one that is the same as one of val is left out of train. "
    "A picture that sits in two or more classes of train is left out of all of them. "
    "Of a picture that sits in one class of train more than once, the first (by file name) is kept. "
    "Then the splits that the source does not give are cut from train."
)


@dataclass(frozen=True)
class Example:
    """One image by name: the split that its source gives it, its class and the sha256 of its pixels (`content`)."""

    member: str
    split: str
    wnid: str
    content: str


@dataclass(frozen=True)
class LeftOut:
    """An image that is left out, the reason, and the members with the same pixels."""

    member: str
    wnid: str
    reason: str
    same_as: tuple[str, ...]


def leave_out(examples: Sequence[Example]) -> list[LeftOut]:
    """Return the images that `RULE` leaves out, in the given order; with a given val split, those of `FOLDER_RULE`."""
    groups = _groups(examples)
    left_out = []
    for example in examples:
        others = [other for other in groups[example.content] if other is not example]
        later = [split for split in SPLITS[SPLITS.index(example.split) + 1 :] if any(o.split == split for o in others)]
        other_classes = [other for other in others if other.wnid != example.wnid]
        first = groups[example.content][0]
        if later:
            reason, same_as = f"in the {later[-1]} split", [other for other in others if other.split == later[-1]]
        elif example.split != "train":
            continue
        elif other_classes:
            reason, same_as = "in another training class", other_classes
        elif first is not example:
            reason, same_as = "a copy within its class", [first]
        else:
            continue
        left_out.append(LeftOut(example.member, example.wnid, reason, tuple(other.member for other in same_as)))
    return left_out


def repeated(examples: Sequence[Example], split: str) -> list[list[str]]:
    """Return the groups of images of one official split that have the same pixels, by name."""
    groups = _groups([example for example in examples if example.split == split])
    return [[example.member for example in group] for group in groups.values() if len(group) > 1]


def _groups(examples: Sequence[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.content].append(example)
    return groups


MAX_HASH_DISTANCE = 6
"""Images are near-duplicates up to this many different bits of 64; unrelated photographs differ in about 32.

Of the 136 million pairs of tiny30, two are that near, and one of these shows the same photograph. Photographs scaled to
half, saved at JPEG quality 30 or a fifth brighter are found (99.7 % or more), two thirds of those cropped by 3 %.
"""

_MAX_PAIRS = 200
_ROWS_AT_A_TIME = 64


def near_duplicates(packed: PackedImages) -> dict[str, Any]:
    """Find images that look alike, by the perceptual hash of ImageHash (`phash`): scaled, re-encoded, little changed.

    Returns JSON values: `max_distance`, `num_pairs` by pair of splits ("train and test"), and up to 200 `pairs` with
    `files`, `splits` and `distance`, those of different splits first, then the most alike. Exact duplicates of train
    have been left out before; nothing else is left out.
    """
    import imagehash  # brings SciPy and PyWavelets, which no other reader of images needs

    images = [(split, name) for split, part in packed.splits.items() for name in part.ids]
    pixels = (one for part in packed.splits.values() for one in np.asarray(part.images))
    bits = np.stack([imagehash.phash(Image.fromarray(one)).hash.ravel() for one in pixels])
    hashes = np.packbits(bits, axis=1).view(np.uint64).ravel()
    split_of = np.array([SPLITS.index(split) for split, _ in images])
    counts = np.zeros((len(SPLITS), len(SPLITS)), dtype=np.int64)
    kept: list[tuple[bool, int, int, int]] = []  # (within one split, distance, first, second)
    for start in range(0, len(hashes), _ROWS_AT_A_TIME):
        distances = np.bitwise_count(hashes[start : start + _ROWS_AT_A_TIME, None] ^ hashes[None, start:])
        rows, columns = np.nonzero(np.triu(distances <= MAX_HASH_DISTANCE, k=1))
        first, second = rows + start, columns + start
        np.add.at(counts, (split_of[first], split_of[second]), 1)
        within = split_of[first] == split_of[second]
        best = np.lexsort((second, first, distances[rows, columns], within))[:_MAX_PAIRS]
        kept += zip(within[best].tolist(), distances[rows, columns][best].tolist(), first[best].tolist(),
                    second[best].tolist(), strict=True)  # fmt: skip
        kept = sorted(kept)[:_MAX_PAIRS]
    return {
        "max_distance": MAX_HASH_DISTANCE,
        "num_pairs": {
            f"{SPLITS[one]} and {SPLITS[other]}" if one != other else f"within {SPLITS[one]}": int(counts[one, other])
            for one, other in combinations_with_replacement(range(len(SPLITS)), 2)
        },
        "pairs": [
            {
                "files": [images[first][1], images[second][1]],
                "splits": [images[first][0], images[second][0]],
                "distance": distance,
            }
            for _, distance, first, second in kept
        ],
    }
