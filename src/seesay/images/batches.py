"""Batches of packed images: a split lies on the device as uint8, and each batch is converted to floats."""

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
from seesay.params.training import Augmentation
from seesay.seeding import torch_generator

Batch = tuple[Tensor, Tensor]
"""A pair of images and labels.

Images are float32 (n, 3, S, S), channels last in memory. Labels are int64 (n,). Where images are mixed, labels are
float32 (n, num_classes): each class's share of the image.
"""


@dataclass(frozen=True)
class DeviceImages:
    """A split on a device: images uint8 (N, S, S, 3), labels int64 (N,), and the mean and std for normalisation."""

    images: Tensor
    labels: Tensor
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(
    split: ImageSplit, *, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> DeviceImages:
    """Copy a split to the device once. An image of 64 x 64 pixels takes 12 kB."""
    images = torch.from_numpy(np.array(split.images))  # a copy: the memory map is read-only
    labels = torch.from_numpy(np.array(split.labels, dtype=np.int64))
    return DeviceImages(images.to(device), labels.to(device), mean, std)


def num_training_batches(num_images: int, *, batch_size: int) -> int:
    """Return the number of batches in an epoch.

    Only full batches count: the remaining images are left out of the epoch. A split smaller than a batch gives one
    small batch.
    """
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
    balanced: bool = False,
) -> Iterator[Batch]:
    """Yield one epoch's augmented batches in random order; where `balanced`, in that of `balanced_order`.

    Order and augmentation depend on (seed, epoch) alone. `size` is the side of the returned images, at most the stored
    side, which is the default. Raises `InputError` where `augmentation.mixing` is set without `num_classes`, as in
    training that uses no labels.
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
    stored_size = images.images.shape[1]
    draws = draw(len(images), augmentation, image_size=stored_size, generator=generator, mirrored=mirrored)
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


def ordered_batches(images: DeviceImages, *, batch_size: int) -> Iterator[Batch]:
    """Yield every image once, normalised and otherwise unchanged, in the split's order."""
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        yield normalise(images.images[chosen], mean=images.mean, std=images.std), images.labels[chosen]
