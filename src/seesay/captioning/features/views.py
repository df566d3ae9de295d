"""What more looks at training images are: windows of them, drawn once, whose features are kept beside the images'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from seesay.images.augment.geometry import draw_resized_crops
from seesay.params.datasets import Views
from seesay.seeding import numpy_generator, torch_generator


class Images(Protocol):
    """RGB images by row."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Image.Image: ...


class ViewedImages:
    """Images, and after them the views of some: first one view of each, then a second, and so on.

    A view is a square of `size` pixels. It depends on the settings and the image's row, so that rows may be asked for
    in any order, in any process.
    """

    def __init__(self, images: Images, of_rows: Sequence[int], settings: Views, *, size: int) -> None:
        self._images = images
        self._of_rows = tuple(of_rows)
        self._settings = settings
        self._size = size

    def __len__(self) -> int:
        return len(self._images) + self._settings.count * len(self._of_rows)

    def __getitem__(self, row: int) -> Image.Image:
        if row < len(self._images):
            return self._images[row]
        view, place = divmod(row - len(self._images), len(self._of_rows))
        return self._view(self._of_rows[place], view)

    def _view(self, row: int, view: int) -> Image.Image:
        settings, image = self._settings, self._images[row]
        generator = torch_generator(settings.seed, "image_views", view, row)
        window = draw_resized_crops(1, settings.crop, generator=generator)[0]
        width, height = image.size
        across, down = width * float(window[0, 2] + 0.5), height * float(window[1, 2] + 0.5)
        half = width * float(window[0, 0]) / 2.0, height * float(window[1, 1]) / 2.0
        box = (
            max(0.0, across - half[0]),
            max(0.0, down - half[1]),
            min(float(width), across + half[0]),
            min(float(height), down + half[1]),
        )
        seen = image.resize((self._size, self._size), Image.Resampling.BILINEAR, box=box)
        is_mirrored = settings.flip and numpy_generator(settings.seed, "mirrored_views", view, row).random() < 0.5
        return ImageOps.mirror(seen) if is_mirrored else seen


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

    def vary(self, _datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """`rows`: each image has the one look."""
        return rows

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """uint8 (N, 3, S, S), channels last, of these rows of the one dataset there is."""
        assert not datasets.any(), "there is one dataset"
        return torch.from_numpy(self._pixels[rows]).permute(0, 3, 1, 2)
