"""Views of training images: random crops, sampled once, whose features are stored with those of the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from seesay.captioning.features.extract import Images
from seesay.images.augment.geometry import draw_resized_crops
from seesay.images.pixels import RESAMPLING, Interpolation
from seesay.params.datasets import Views
from seesay.ranks import ALONE, Ranks
from seesay.seeding import numpy_generator, torch_generator


class ViewedImages:
    """Images, followed by views of the images at `of_rows`: first one view of each, then a second one, and so on.

    A view is a square of `size` pixels. It depends only on the settings and the image's row, so that rows may be read
    in any order, in any process.
    """

    def __init__(
        self,
        images: Images,
        of_rows: Sequence[int],
        settings: Views,
        *,
        size: int,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self._images = images
        self._of_rows = tuple(of_rows)
        self._settings = settings
        self._size = size
        self._resampling = RESAMPLING[interpolation]

    def __len__(self) -> int:
        return len(self._images) + self._settings.count * len(self._of_rows)

    def __getitem__(self, row: int) -> Image.Image:
        if row < len(self._images):
            return self._images[row]
        view, position = divmod(row - len(self._images), len(self._of_rows))
        return self._view(self._of_rows[position], view)

    def _view(self, row: int, view: int) -> Image.Image:
        settings, image = self._settings, self._images[row]
        generator = torch_generator(settings.seed, "image_views", view, row)
        crop = draw_resized_crops(1, settings.crop, generator=generator)[0]
        width, height = image.size
        centre_x, centre_y = width * float(crop[0, 2] + 0.5), height * float(crop[1, 2] + 0.5)
        half_width, half_height = width * float(crop[0, 0]) / 2.0, height * float(crop[1, 1]) / 2.0
        box = (
            max(0.0, centre_x - half_width),
            max(0.0, centre_y - half_height),
            min(float(width), centre_x + half_width),
            min(float(height), centre_y + half_height),
        )
        cropped = image.resize((self._size, self._size), self._resampling, box=box)
        is_mirrored = settings.flip and numpy_generator(settings.seed, "mirrored_views", view, row).random() < 0.5
        return ImageOps.mirror(cropped) if is_mirrored else cropped


class PixelRows:
    """uint8 RGB pixels by row, as a memory map in a scratch folder, which may be larger than memory."""

    def __init__(
        self, folder: Path, num_images: int, image_size: int, batches: Iterable[Tensor], *, ranks: Ranks = ALONE
    ) -> None:
        """Write `batches`, uint8 (B, S, S, 3), of `num_images` images in total, with S = `image_size` pixels a side.

        Rank 0 writes them, and the others read the file.
        """
        if ranks.is_first:
            self._write(folder, (num_images, image_size, image_size, 3), batches)
        path = ranks.from_first(folder / "pixels.npy")
        self._pixels = np.load(path, mmap_mode="r", allow_pickle=False)

    @staticmethod
    def _write(folder: Path, shape: tuple[int, int, int, int], batches: Iterable[Tensor]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        start = 0
        for batch in batches:
            pixels[start : start + len(batch)] = batch.numpy()
            start += len(batch)
        assert start == len(pixels), (start, shape)

    def sample_views(self, _datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Return `rows`: pixels have no views."""
        return rows

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return the pixels of `rows`, uint8 (N, 3, S, S) in channels-last memory format; all `datasets` must be 0."""
        assert not datasets.any(), "there is only one dataset"
        return torch.from_numpy(self._pixels[rows]).permute(0, 3, 1, 2)
