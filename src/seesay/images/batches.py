"""How a split of packed images reaches a network: whole on the device as uint8, batch by batch as floats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seesay.core.errors import InputError
from seesay.images.augment.mixing import mix
from seesay.images.augment.pipeline import augment, draw, normalise
from seesay.images.packed import ImageSplit
from seesay.params.augmentation import Augmentation
from seesay.seeding import torch_generator

Batch = tuple[Tensor, Tensor]
"""Images float32 (n, 3, S, S), channels last in memory, and labels: int64 (n,), or where images are mixed float32
(n, num_classes), each class's share of the image."""


@dataclass(frozen=True)
class DeviceImages:
    """A split on a device: images uint8 (N, S, S, 3), labels int64 (N,), and how to normalise."""

    images: Tensor
    labels: Tensor
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(
    split: ImageSplit, *, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> DeviceImages:
    """Copies a split to the device, once: 12 kB an image of 64 pixels."""
    images = torch.from_numpy(np.array(split.images))  # a copy: the memory map is read-only
    labels = torch.from_numpy(np.array(split.labels, dtype=np.int64))
    return DeviceImages(images.to(device), labels.to(device), mean, std)


def num_training_batches(num_images: int, *, batch_size: int) -> int:
    """Whole batches in an epoch; what does not fill one waits for another epoch (a few images make one small batch)."""
    return max(1, num_images // batch_size)


def training_batches(
    images: DeviceImages,
    epoch: int,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    size: int | None = None,
    num_classes: int | None = None,
) -> Iterator[Batch]:
    """One epoch's augmented batches in an order of its own; both depend on (seed, epoch) alone.

    `size` is the side that images are shown at, at most the stored one, which None stands for. Raises `InputError`
    where `augmentation.mixing` is asked for without `num_classes`, that is by what learns from images alone.
    """
    if augmentation.mixing is not None and num_classes is None:
        raise InputError("augmentation.mixing: expected none where there are no classes to learn")
    order = torch.randperm(len(images), generator=torch_generator(seed, "order", epoch))
    generator = torch_generator(seed, "augmentation", epoch)
    draws = draw(len(images), augmentation, image_size=images.images.shape[1], generator=generator)
    device = images.images.device
    order, draws = order.to(device, non_blocking=True), draws.to(device)
    for index in range(num_training_batches(len(images), batch_size=batch_size)):
        chosen = slice(index * batch_size, (index + 1) * batch_size)
        rows, chances = order[chosen], draws[chosen]
        batch = augment(images.images, rows, chances, augmentation, mean=images.mean, std=images.std, size=size)
        labels = images.labels[rows]
        if chances.mixes is not None and num_classes is not None:
            yield mix(batch, labels, chances.mixes, num_classes=num_classes)
        else:
            yield batch, labels


def ordered_batches(images: DeviceImages, *, batch_size: int) -> Iterator[Batch]:
    """Every image once, unchanged but for normalisation, in the split's order."""
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        yield normalise(images.images[chosen], mean=images.mean, std=images.std), images.labels[chosen]
