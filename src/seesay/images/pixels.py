"""From images as people have them to the pixels that a network takes: one way for training and for prediction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from seesay.arrays import Undecodable, decode_rgb, upright_rgb
from seesay.core.errors import InputError

Interpolation = Literal["bilinear", "bicubic"]

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""An image: the path of a file, a file's content, a PIL image, or an array, uint8 (H, W), (H, W, 3) or (H, W, 4)."""


@dataclass(frozen=True)
class Transform:
    """Resizing of the shorter side to `resize_size` pixels, then a centre crop of `image_size` pixels a side."""

    image_size: int
    resize_size: int
    interpolation: Interpolation

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the pixels, uint8 (image_size, image_size, 3), of an RGB image."""
        return resize_and_crop(
            image, image_size=self.image_size, resize_size=self.resize_size, interpolation=self.interpolation
        )

    def batch(self, images: Sequence[ImageLike]) -> np.ndarray:
        """Return the pixels, uint8 (N, image_size, image_size, 3), of images; raises as `read_rgb` does."""
        pixels = [self.pixels(read_rgb(image)) for image in images]
        return np.stack(pixels) if pixels else np.empty((0, self.image_size, self.image_size, 3), np.uint8)


def transform_of(image_size: int) -> Transform:
    """Return the transform of labelled images, for datasets and for the models trained on them."""
    return Transform(image_size, image_size, "bicubic")


def resize_and_crop(
    image: Image.Image, *, image_size: int, resize_size: int, interpolation: Interpolation = "bilinear"
) -> np.ndarray:
    """Return the pixels, uint8 (image_size, image_size, 3), of an RGB image without distorting it.

    The shorter side is resized to `resize_size`, antialiased, then the centre is cropped. A square image is
    resized to `image_size` instead and loses nothing.
    """
    width, height = image.size
    if width == height:
        resize_size = image_size
    shorter = min(width, height)
    size = (round(width * resize_size / shorter), round(height * resize_size / shorter))
    if size != image.size:
        image = image.resize(size, RESAMPLING[interpolation])
    left, top = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    return np.asarray(image.crop((left, top, left + image_size, top + image_size)))


def read_rgb(image: ImageLike) -> Image.Image:
    """Return an image in RGB, upright: the first frame, over white where it is transparent; see `decode_rgb`.

    Raises `InputError`, naming the file where there is one, for anything that is not a whole image.
    """
    if isinstance(image, str | os.PathLike):
        return _read_file(image)
    try:
        if isinstance(image, bytes | bytearray | memoryview):
            return decode_rgb(bytes(image)).image
        if isinstance(image, Image.Image):
            return upright_rgb(image)
    except Undecodable as error:
        raise InputError(f"not a readable image: {error}") from None
    if isinstance(image, np.ndarray):
        return _from_array(image)
    expected = "a path, the bytes of a file, a PIL image or a uint8 array"
    raise InputError(f"got {type(image).__name__} for an image: expected {expected}")


def _read_file(path: str | os.PathLike[str]) -> Image.Image:
    if "://" in (name := os.fspath(path)):
        raise InputError(f"{name}: expected the path of a file; download it first")
    try:
        return decode_rgb(Path(path).read_bytes()).image
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from None
    except Undecodable as error:
        raise InputError(f"{name}: not a readable image: {error}") from None


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2:]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in ((), (1,), (3,), (4,)) or not array.size:
        raise InputError(
            f"got an array of {array.dtype} {array.shape} for an image: expected uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    return upright_rgb(Image.fromarray(array[..., 0] if channels == (1,) else array))
