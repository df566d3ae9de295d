"""How each image of an archive is decoded once: to RGB, at one size, with hashes of its contents."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from seesay.data.duplicates import Example
from seesay.data.tiny_imagenet import TinyImageNet


@dataclass(frozen=True)
class DecodedImage:
    """One image: `pixels` uint8 (image_size, image_size, 3), or the reason why there are none."""

    example: Example
    pixels: np.ndarray
    mode: str
    size: str
    file_sha256: str
    error: str = ""


def decode_all(
    archive: zipfile.ZipFile, index: TinyImageNet, wnids: Sequence[str], *, image_size: int
) -> list[DecodedImage]:
    """Every image of the classes, decoded once: train by class and number, then test by class and number."""
    train = [(member, "train", wnid) for wnid in wnids for member in index.train[wnid]]
    test = [(member, "test", wnid) for wnid in wnids for member, labelled in index.val if labelled == wnid]

    def decode(item: tuple[str, str, str]) -> DecodedImage:
        member, split, wnid = item
        return _decode(archive.read(index.top + member), member, split, wnid, image_size=image_size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL and hashlib work outside the interpreter's lock
        return list(pool.map(decode, [*train, *test]))


def _decode(content: bytes, member: str, split: str, wnid: str, *, image_size: int) -> DecodedImage:
    file_sha256 = hashlib.sha256(content).hexdigest()
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, size = image.mode, f"{image.width}x{image.height}"
            rgb = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split(" <")[0].split()) or type(error).__name__  # PIL adds a memory address
        return DecodedImage(Example(member, split, wnid, ""), np.empty(0, np.uint8), "", "", file_sha256, reason)
    if rgb.size != (image_size, image_size):  # the shorter side fits, the middle is kept: nothing is squashed
        rgb = ImageOps.fit(rgb, (image_size, image_size), Image.Resampling.BICUBIC)
    pixels = np.asarray(rgb)
    content_sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
    return DecodedImage(Example(member, split, wnid, content_sha256), pixels, mode, size, file_sha256)
