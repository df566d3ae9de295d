"""Decoding of an archive's images to RGB at one size, and the rule for duplicates."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from seesay.arrays import Undecodable, decode_rgb
from seesay.images.pixels import transform_of
from seesay.images.tiny_imagenet import TinyImageNet
from seesay.sources.members import ZipMembers


@dataclass(frozen=True)
class DecodedImage:
    """One image. `pixels` is uint8 (image_size, image_size, 3). If decoding failed, it is empty; `error` says why."""

    example: Example
    pixels: np.ndarray
    mode: str
    size: str
    file_sha256: str
    error: str = ""


def decode_all(
    archive: ZipMembers, index: TinyImageNet, wnids: Sequence[str], *, image_size: int
) -> list[DecodedImage]:
    """Decode every image of the classes once: train by class and number, then test by class and number."""
    train = [(member, "train", wnid) for wnid in wnids for member in index.train[wnid]]
    test = [(member, "test", wnid) for wnid in wnids for member, labelled in index.val if labelled == wnid]

    def decode(item: tuple[str, str, str]) -> DecodedImage:
        member, split, wnid = item
        return _decode(archive.read(index.top + member), member, split, wnid, image_size=image_size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL and hashlib release the GIL
        return list(pool.map(decode, [*train, *test]))


def _decode(content: bytes, member: str, split: str, wnid: str, *, image_size: int) -> DecodedImage:
    file_sha256 = hashlib.sha256(content).hexdigest()
    try:
        rgb, mode = decode_rgb(content)
    except Undecodable as error:
        return DecodedImage(Example(member, split, wnid, ""), np.empty(0, np.uint8), "", "", file_sha256, str(error))
    size = f"{rgb.width}x{rgb.height}"
    pixels = transform_of(image_size).pixels(rgb)
    content_sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
    return DecodedImage(Example(member, split, wnid, content_sha256), pixels, mode, size, file_sha256)


RULE = (
    "Two images are the same when their decoded pixels (RGB, at the dataset's image size) have the same sha256. "
    "The test split is the official one and is never changed. "
    "A training image that is the same as a test image is left out. "
    "A picture that sits in two or more training classes is left out of all of them. "
    "Of a picture that sits in one training class more than once, the first (by file number) is kept. "
    "Only the classes of the subset are compared."
)


@dataclass(frozen=True)
class Example:
    """One image by name: its official split (`train` or `test`), its class and the sha256 of its pixels (`content`)."""

    member: str
    split: str
    wnid: str
    content: str


@dataclass(frozen=True)
class LeftOut:
    """A training image that is left out, the reason, and the members with the same pixels."""

    member: str
    wnid: str
    reason: str
    same_as: tuple[str, ...]


def leave_out(examples: Sequence[Example]) -> list[LeftOut]:
    """Return the training images that `RULE` leaves out, in the given order."""
    groups = _groups(examples)
    left_out = []
    for example in examples:
        if example.split != "train" or len(groups[example.content]) == 1:
            continue
        others = [other for other in groups[example.content] if other is not example]
        tests = [other for other in others if other.split == "test"]
        other_classes = [other for other in others if other.wnid != example.wnid]
        first = groups[example.content][0]
        if tests:
            reason, same_as = "in the test split", tests
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
