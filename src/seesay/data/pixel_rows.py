"""Images decoded once, for an encoder that learns from them again and again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class PixelRows:
    """uint8 RGB pixels by row, in one file of a scratch folder: a memory map, which may be larger than memory."""

    def __init__(self, folder: Path, num_images: int, image_size: int, batches: Iterable[Tensor]) -> None:
        """Writes `batches`, uint8 (B, S, S, 3), which together hold `num_images` images of S = `image_size` pixels."""
        folder.mkdir(parents=True, exist_ok=True)
        shape = (num_images, image_size, image_size, 3)
        self._pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        start = 0
        for batch in batches:
            self._pixels[start : start + len(batch)] = batch.numpy()
            start += len(batch)
        assert start == num_images, (start, num_images)

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """uint8 (N, 3, S, S), channels last, of these rows of the one dataset there is."""
        assert not datasets.any(), "there is one dataset"
        return torch.from_numpy(self._pixels[rows]).permute(0, 3, 1, 2)
