"""How all images of a dataset go through the encoder: decoding overlaps with computing, row order is image order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from seesay.compute import Compute
from seesay.models.encoder import Encoder

BATCHES_AHEAD = 3
"""Decoded batches that may wait for the encoder: enough to overlap, little memory."""


class Images(Protocol):
    """RGB images by row, safe to read from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Image.Image: ...


def extract_features(
    encoder: Encoder,
    images: Images,
    *,
    image_size: int,
    resize_size: int,
    batch_size: int,
    num_workers: int,
    compute: Compute,
) -> np.ndarray:
    """Features (N, num_dimensions), float16, row by row those of `images`.

    Each image's shorter side is resized to `resize_size` (bilinear, antialiased) and its middle `image_size` square
    kept; a square image is resized to `image_size` and loses nothing. `num_workers` threads decode (0: this one).
    In float32 whatever the precision asked for: features are made once and everything after rests on them.
    """
    encoder = compute.place(encoder)
    features = np.empty((len(images), encoder.num_dimensions), dtype=np.float16)
    prepared = _prepared(
        images,
        image_size=image_size,
        resize_size=resize_size,
        num_workers=num_workers,
        num_ahead=BATCHES_AHEAD * batch_size,
    )
    with (
        torch.inference_mode(),
        tqdm(total=len(images), desc="features", unit="image", disable=not sys.stderr.isatty()) as progress,
    ):
        for start in range(0, len(images), batch_size):
            pixels = np.stack([next(prepared) for _ in range(start, min(start + batch_size, len(images)))])
            # A permuted view of (N, H, W, C) pixels is a channels-last tensor already.
            batch = torch.from_numpy(pixels).to(compute.device).permute(0, 3, 1, 2)
            features[start : start + len(pixels)] = encoder(batch).cpu().numpy()
            progress.update(len(pixels))
    return features


def prepare(image: Image.Image, *, image_size: int, resize_size: int) -> np.ndarray:
    """uint8 (image_size, image_size, 3) of an RGB image, its proportions kept; see `extract_features`."""
    width, height = image.size
    if width == height:
        resize_size = image_size
    shorter = min(width, height)
    size = (round(width * resize_size / shorter), round(height * resize_size / shorter))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    return np.asarray(image.crop((left, top, left + image_size, top + image_size)))


def _prepared(
    images: Images, *, image_size: int, resize_size: int, num_workers: int, num_ahead: int
) -> Iterator[np.ndarray]:
    """All images, prepared, in order; with workers, up to `num_ahead` of them in advance."""

    def prepare_row(row: int) -> np.ndarray:
        return prepare(images[row], image_size=image_size, resize_size=resize_size)

    if num_workers == 0:
        yield from map(prepare_row, range(len(images)))
        return
    waiting: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:  # PIL decodes and resizes outside the interpreter's lock
        try:
            for row in range(len(images)):
                waiting.append(pool.submit(prepare_row, row))
                if len(waiting) > num_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
