"""Reading and writing of arrays in `.npy` files. A file is written completely or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from seesay.core.errors import InputError
from seesay.core.files import atomic_path


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file. Its bytes depend on dtype, shape and values only."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def read_array(path: Path, *, mmap: bool = False) -> np.ndarray:
    """Read the array in a `.npy` file, memory-mapped read-only where `mmap` is true.

    Raises `InputError` where the file is missing or not a readable array.
    """
    mode: Literal["r"] | None = "r" if mmap else None
    try:
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy array ({error})") from None
    return array
