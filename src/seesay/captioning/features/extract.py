"""Extraction of the features of all images of a dataset; decoding and computing overlap."""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from tqdm import tqdm

from seesay.captioning.features.encoders import FeatureEncoder
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.pixels import Interpolation, resize_and_crop

BATCHES_AHEAD = 3
"""Decoded batches that each worker may queue for the encoder: enough to overlap, in little memory."""


class Images(Protocol):
    """RGB images by row. Worker processes read copies of it."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Image.Image: ...


class Rows(Protocol):
    """A store of feature rows, of which the first `num_done` have been written."""

    @property
    def num_done(self) -> int: ...

    def write(self, start: int, features: Mapping[str, np.ndarray]) -> None: ...


def extract_features(
    encoder: FeatureEncoder,
    images: Images,
    rows: Rows | None,
    *,
    image_size: int,
    resize_size: int,
    batch_size: int,
    num_workers: int,
    compute: Compute,
) -> None:
    """Write the features of all `images` to `rows`, except those that have been written already.

    Ranks take turns at batches, and rank 0 writes them: only there are `rows` needed.
    Images are resized and cropped by `resize_and_crop`. `num_workers` processes decode them (0: this process).

    Batches begin at multiples of `batch_size`, even when an interrupted extraction resumes. Each batch is computed by
    one thread; a CPU computes as many batches at a time as there are threads. A row's bytes therefore depend neither on
    interruptions nor on the number of threads. This is also faster than one batch on all threads, especially on a busy
    machine, where the threads would wait for each other.
    """
    num_images, ranks = len(images), compute.ranks
    encoder = compute.place(encoder)
    num_done = ranks.from_first(0 if rows is None else rows.num_done)
    first = -(-num_done // batch_size)  # all rows are done, or whole batches of them
    own = ranks.turns(range(first, -(-num_images // batch_size)))
    num_rounds = -(-(-(-num_images // batch_size) - first) // ranks.count)
    num_threads = compute.num_threads if compute.device.type == "cpu" else 1
    progress = tqdm(total=num_images, initial=num_done, desc="features", unit="image", disable=not sys.stderr.isatty())
    waiting: deque[tuple[int, Future[dict[str, np.ndarray]]]] = deque()

    def write_oldest() -> None:
        oldest = [waiting.popleft()] if waiting else []
        for start, features in ranks.gather([(start, future.result()) for start, future in oldest]):
            if rows is not None:
                rows.write(start, features)
            progress.update(len(features["pooled"]))

    # Worker processes must be forked before threads exist.
    decoded = decoded_batches(
        images,
        image_size=image_size,
        resize_size=resize_size,
        interpolation=encoder.interpolation,
        batch_size=batch_size,
        num_workers=num_workers,
        chosen=own,
    )
    with progress, ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for index, pixels in zip(own, decoded, strict=True):
                waiting.append((index * batch_size, pool.submit(_encode, encoder, pixels, compute)))
                if len(waiting) > num_threads:
                    write_oldest()
            for _ in range(len(waiting) + num_rounds - len(own)):  # in the last round a rank may have no batch
                write_oldest()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(compute.num_threads)  # the pool's threads have set it for this thread too


class _Batches(Dataset[Any]):
    """Pixels by batch, uint8 (B, image_size, image_size, 3), or the error of an image that cannot be read."""

    def __init__(
        self, images: Images, *, image_size: int, resize_size: int, interpolation: Interpolation, batch_size: int
    ) -> None:
        self.images = images
        self._resized = partial(
            resize_and_crop, image_size=image_size, resize_size=resize_size, interpolation=interpolation
        )
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.images) // self._batch_size)

    def __getitem__(self, index: int) -> Tensor | InputError:
        start = index * self._batch_size
        rows = range(start, min(start + self._batch_size, len(self.images)))
        try:
            return torch.from_numpy(np.stack([self._resized(self.images[row]) for row in rows]))
        except InputError as error:  # returned, since the message of a raised one would become a worker's traceback
            return error


def decoded_batches(
    images: Images,
    *,
    image_size: int,
    resize_size: int,
    interpolation: Interpolation,
    batch_size: int,
    num_workers: int,
    chosen: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """Return the `chosen` batches, or all, of resized and cropped images, uint8 (B, image_size, image_size, 3).

    Worker processes are forked at once. Raises `InputError` for an image that cannot be decoded.
    """
    batches = _Batches(
        images, image_size=image_size, resize_size=resize_size, interpolation=interpolation, batch_size=batch_size
    )
    loader = iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(len(batches)) if chosen is None else chosen,
            num_workers=num_workers,
            prefetch_factor=BATCHES_AHEAD if num_workers else None,
            worker_init_fn=_copy_images,
        )
    )

    def checked() -> Iterator[Tensor]:
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    return checked()


def _encode(encoder: FeatureEncoder, pixels: Tensor, compute: Compute) -> dict[str, np.ndarray]:
    # A permuted view of (N, H, W, C) pixels is a channels-last tensor already.
    batch = pixels.to(compute.device).permute(0, 3, 1, 2)
    with torch.inference_mode(), compute.autocast():  # both apply to the current thread only
        return {kind: values.cpu().numpy() for kind, values in encoder(batch).items()}


def _copy_images(_worker: int) -> None:
    """Give a worker its own copy of the images, without the open file handles that a fork shares with its parent."""
    info: Any = get_worker_info()
    info.dataset.images = copy.copy(info.dataset.images)
