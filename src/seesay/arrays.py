"""Arrays: `.npy` files, written completely or not at all; decoding of images to RGB; linear algebra on one thread."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from seesay.core.errors import InputError
from seesay.core.files import atomic_path


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let the linear algebra of numpy, scipy and scikit-learn use one thread; also a decorator.

    It otherwise uses all cores, or as many as the environment says, and sums in another order with each number.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file. Its bytes depend on dtype, shape and values only."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def new_mapped_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap:
    """Create a `.npy` file of zeros that need not fit in memory, and return it to be filled; replaces a file there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # whoever has mapped it keeps what it read
    mapped: np.memmap = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape, version=(1, 0))
    return mapped


_BAD_ARRAY = (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, TokenError)
_BAD_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    AttributeError,
    KeyError,
    RuntimeError,
    NotImplementedError,
)


def read_array(path: Path, *, mmap: bool = False) -> np.ndarray:
    """Read the array in a `.npy` file, memory-mapped read-only where `mmap` is true.

    Raises `InputError` where the file is missing or not a readable array.
    """
    mode: Literal["r"] | None = "r" if mmap else None
    try:
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except _BAD_ARRAY as error:  # numpy parses the header as Python
        raise InputError(f"{path}: not a readable .npy array ({error})") from None
    return array


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays in a `.npz` file by name; raises `InputError` where it is missing, damaged or of another kind."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in sorted(archive.files)}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (*_BAD_ARRAY, *_BAD_ARCHIVE) as error:
        raise InputError(f"{path}: not a readable .npz archive ({' '.join(str(error).split())})") from None


class DecodedRgb(NamedTuple):
    """An image in RGB, upright, and the mode that its file has."""

    image: Image.Image
    mode: str


class Undecodable(ValueError):  # noqa: N818  # names the state of the image
    """Bytes that are not a whole image; the message is one line and says why."""


def decode_rgb(content: bytes) -> DecodedRgb:
    """Decode an image file to RGB: the first frame, turned as EXIF says, over white where it is transparent.

    16-bit values are divided by 257. Whole numbers of 32 bits and floats do not say their range: it is the smallest of
    0 to 1, 0 to 255 and 0 to 65,535 that holds all values. Raises `Undecodable`, also for values outside these ranges.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return DecodedRgb(upright_rgb(opened), opened.mode)
    except _BAD_IMAGE as error:
        raise Undecodable(one_line(error)) from None


_BAD_IMAGE = (Image.DecompressionBombError, OSError, ValueError, SyntaxError, TypeError, ArithmeticError, LookupError,
              struct.error, zlib.error, EOFError, AttributeError, NotImplementedError, RuntimeError,
              MemoryError)  # fmt: skip


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a PIL image of any mode in RGB, as `decode_rgb` does; raises `Undecodable`."""
    try:
        image.load()
        turn, rgb = _TURNS.get(_orientation(image)), _to_rgb(image)
    except _BAD_IMAGE as error:
        raise Undecodable(one_line(error)) from None
    return rgb if turn is None else rgb.transpose(turn)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition for each value of EXIF's orientation."""


def _orientation(image: Image.Image) -> Any:
    try:
        found = image.getexif().get(0x0112)
    except Exception:  # a damaged EXIF block raises anything; viewers show the image as it lies
        return None
    return found if isinstance(found, int) else None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        top = 65535 if image.mode.startswith("I;16") else _range_of(values)
        return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")


def _range_of(values: np.ndarray) -> int:
    lowest, highest = values.min(), values.max()
    for top in (1, 255, 65535):
        if lowest >= 0 and highest <= top:
            return top
    raise Undecodable(f"its values are from {lowest:g} to {highest:g}: expected 0 to 1, 255 or 65535")


def one_line(error: Exception) -> str:
    """Return an error's message in one line, or the name of its type if it has none."""
    return " ".join(str(error).split(" <")[0].split()) or type(error).__name__  # PIL adds a memory address
