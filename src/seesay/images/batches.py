"""Batches of packed images: a split lies on the device as uint8, and each batch is converted to floats.

A split that is too large for memory is read from its file, a few batches ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.augment.mixing import mix
from seesay.images.augment.pipeline import augment, draw, normalise
from seesay.images.packed import ImageSplit
from seesay.params.training import Augmentation
from seesay.ranks import ALONE, Ranks
from seesay.seeding import torch_generator

BATCHES_AHEAD = 2
"""Batches read from the file while one is trained on: enough to overlap, in little memory."""

Batch = tuple[Tensor, Tensor]
"""A pair of images and labels.

Images are float32 (n, 3, S, S), channels last in memory. Labels are int64 (n,). Where images are mixed, labels are
float32 (n, num_classes): each class's share of the image.
"""


@dataclass(frozen=True)
class LoadedImages:
    """A split to take batches from: images uint8 (N, S, S, 3), labels int64 (N,), mean and std for normalisation.

    `images` are on the device of the labels or, where they are too large for memory, in their file's memory map.
    """

    images: Tensor | np.ndarray
    labels: Tensor
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(split: ImageSplit, *, mean: Sequence[float], std: Sequence[float], compute: Compute) -> LoadedImages:
    """Copy a split to the device once, where `compute.holds` it. An image of 64 x 64 pixels takes 12 kB."""
    labels = torch.from_numpy(np.array(split.labels, dtype=np.int64)).to(compute.device)
    if not compute.holds(split.images.nbytes):
        return LoadedImages(np.asarray(split.images), labels, mean, std)
    images = torch.from_numpy(np.array(split.images))  # a copy: the memory map is read-only
    return LoadedImages(images.to(compute.device), labels, mean, std)


def _read(images: LoadedImages, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each of `batches`, rows (n,) of the split, images on the device and the rows among these."""
    stored = images.images
    if isinstance(stored, Tensor):
        yield from ((stored, rows) for rows in batches)
    else:
        yield from _read_from_file(stored, batches, images.labels.device)


def _read_from_file(
    stored: np.ndarray, batches: Iterable[Tensor], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    waiting: deque[Future[np.ndarray]] = deque()

    def read_oldest() -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(waiting.popleft().result()).to(device)
        return pixels, torch.arange(len(pixels), device=device)

    with ThreadPoolExecutor(1) as pool:
        for rows in batches:
            waiting.append(pool.submit(np.take, stored, rows.cpu().numpy(), axis=0))
            if len(waiting) > BATCHES_AHEAD:
                yield read_oldest()
        while waiting:
            yield read_oldest()


def num_training_batches(num_images: int, *, batch_size: int) -> int:
    """Return the number of batches in an epoch.

    Only full batches count: the remaining images are left out of the epoch. A split smaller than a batch gives one
    small batch.
    """
    return max(1, num_images // batch_size)


def training_batches(
    images: LoadedImages,
    epoch: int,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    size: int | None = None,
    num_classes: int | None = None,
    balanced: bool = False,
    ranks: Ranks = ALONE,
) -> Iterator[Batch]:
    """Yield one epoch's augmented batches in random order; where `balanced`, in that of `balanced_order`.

    Order and augmentation depend on (seed, epoch) alone. `size` is the side of the returned images, at most the stored
    side, which is the default. Of each batch, a rank gets its part. Raises `InputError` where `augmentation.mixing` is
    set without `num_classes`, as in training that uses no labels.
    """
    if augmentation.mixing is not None and num_classes is None:
        raise InputError("augmentation.mixing: expected none where no class labels are used")
    if balanced:
        order = balanced_order(images.labels.cpu(), generator=torch_generator(seed, "balanced order", epoch))
    else:
        order = torch.randperm(len(images), generator=torch_generator(seed, "order", epoch))
    generator = torch_generator(seed, "augmentation", epoch)
    mirrored = None
    if augmentation.flip == "alternating":
        first = torch.rand(len(images), generator=torch_generator(seed, "alternating flip")) < 0.5
        mirrored = (first ^ (epoch % 2 == 0))[order]
    stored_size = int(images.images.shape[1])
    draws = draw(len(images), augmentation, image_size=stored_size, generator=generator, mirrored=mirrored)
    device = images.labels.device
    order, draws = order.to(device, non_blocking=True), draws.to(device)
    part = ranks.part(min(batch_size, len(images)))
    own = slice(None) if draws.mixes is not None else part  # images are mixed with others of the whole batch
    chosen = [
        slice(index * batch_size, (index + 1) * batch_size)
        for index in range(num_training_batches(len(images), batch_size=batch_size))
    ]
    stored = _read(images, (order[one][own] for one in chosen))
    for one, (pixels, rows) in zip(chosen, stored, strict=True):
        chances, labels = draws[one][own], images.labels[order[one][own]]
        batch = augment(pixels, rows, chances, augmentation, mean=images.mean, std=images.std, size=size)
        if chances.mixes is not None and num_classes is not None:
            batch, labels = mix(batch, labels, chances.mixes, num_classes=num_classes)
            batch, labels = batch[part], labels[part]
        yield batch, labels


def balanced_order(labels: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw as many rows as there are `labels`, int64 (N,), in random order, equally many of each class.

    Classes differ by at most one row; which classes have one more is drawn too. A class's images are used equally
    often, give or take once: again and again where the class is small, and only a part of them where it is large.
    """
    classes = torch.bincount(labels).nonzero().flatten()
    counts = torch.full_like(classes, len(labels) // len(classes))
    counts[torch.randperm(len(classes), generator=generator)[: len(labels) % len(classes)]] += 1
    rows = []
    for one, count in zip(classes, counts.tolist(), strict=True):
        members = (labels == one).nonzero().flatten()
        rounds = range(-(-count // len(members)))
        shuffled = [members[torch.randperm(len(members), generator=generator)] for _ in rounds]
        rows.append(torch.cat([members[:0], *shuffled])[:count])
    together = torch.cat(rows)
    return together[torch.randperm(len(together), generator=generator)]


def ordered_batches(images: LoadedImages, *, batch_size: int, ranks: Ranks = ALONE) -> Iterator[Batch]:
    """Yield every image once, normalised and otherwise unchanged, in the split's order; ranks take turns at batches."""
    for start in ranks.turns(range(0, len(images), batch_size)):
        chosen = slice(start, start + batch_size)
        pixels = images.images[chosen]
        if not isinstance(pixels, Tensor):
            pixels = torch.from_numpy(np.array(pixels)).to(images.labels.device)
        yield normalise(pixels, mean=images.mean, std=images.std), images.labels[chosen]
