"""What training images go through: crop, flip and cutout, each image by chance, a whole batch at once on its device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from seesay.errors import InputError
from seesay.params.experiments import Augmentation


@dataclass(frozen=True)
class Draws:
    """The chances of n images; each field is (n,).

    `top` and `left` (0 .. 2 * crop_padding) place the crop's window in the padded image; `cutout_top` and `cutout_left`
    place the square to blank, which always lies wholly inside the image.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    cutout_top: Tensor
    cutout_left: Tensor

    def to(self, device: torch.device) -> Draws:
        return Draws(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))

    def __getitem__(self, chosen: slice) -> Draws:
        return Draws(*(getattr(self, one.name)[chosen] for one in fields(self)))


def draw(num_images: int, augmentation: Augmentation, *, image_size: int, generator: torch.Generator) -> Draws:
    """Chances for `num_images`, on the CPU: the same generator state gives the same on every device."""
    if augmentation.crop_padding >= image_size:
        got = augmentation.crop_padding
        raise InputError(f"augmentation.crop_padding: got {got}: expected less than the image size, {image_size}")
    room = image_size - _cutout_side(augmentation, image_size)

    def upto(largest: int) -> Tensor:
        return torch.randint(largest + 1, (num_images,), generator=generator)

    # All are drawn whether used or not, so that turning one off leaves the others as they were.
    padding = 2 * augmentation.crop_padding
    top, left = upto(padding), upto(padding)
    flip = torch.rand(num_images, generator=generator) < 0.5
    return Draws(top, left, flip & augmentation.flip, upto(room), upto(room))


def augment(
    images: Tensor,
    rows: Tensor,
    draws: Draws,
    augmentation: Augmentation,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """`images[rows]` cropped, flipped, normalised and cut out.

    `images` is the whole split, uint8 (N, S, S, 3), contiguous; `rows` is (n,), `draws` is theirs, all on one device.
    Returns float32 (n, 3, S, S), channels last in memory. A crop is a window of the image padded by reflection. Cutout
    blanks a square whose side is `augmentation.cutout` of the image's (DeVries and Taylor, 2017) with the mean colour.
    """
    size = images.shape[1]
    if augmentation.flip or augmentation.crop_padding:
        steps = torch.arange(size, device=images.device) - augmentation.crop_padding
        down = _reflect(draws.top[:, None] + steps, size)  # (n, S): which row of the image each row of the crop shows
        across = _reflect(draws.left[:, None] + steps, size)
        across = torch.where(draws.flip[:, None], across.flip(1), across)
        pixels = (rows[:, None, None] * size + down[:, :, None]) * size + across[:, None, :]
        chosen = images.view(-1, 3).index_select(0, pixels.flatten()).view(-1, size, size, 3)
    else:
        chosen = images.index_select(0, rows)
    batch = normalise(chosen, mean=mean, std=std)
    side = _cutout_side(augmentation, size)
    if side:
        blank_rows = _span(draws.cutout_top, side, size)
        blank_columns = _span(draws.cutout_left, side, size)
        batch.masked_fill_((blank_rows[:, :, None] & blank_columns[:, None, :])[:, None], 0.0)
    return batch


def normalise(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (n, S, S, 3) to float32 (n, 3, S, S), channels last in memory: (image / 255 - mean) / std per channel."""
    shift = torch.tensor([255.0 * value for value in mean], device=images.device)[:, None, None]
    scale = torch.tensor([1.0 / (255.0 * value) for value in std], device=images.device)[:, None, None]
    return images.permute(0, 3, 1, 2).to(torch.float32).sub_(shift).mul_(scale)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside 0 .. size - 1 mirrored at the borders, which are not repeated (-1 becomes 1)."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _cutout_side(augmentation: Augmentation, image_size: int) -> int:
    return round(augmentation.cutout * image_size)


def _span(start: Tensor, length: int, size: int) -> Tensor:
    """(n, size): true at the `length` positions from `start` on."""
    positions = torch.arange(size, device=start.device)
    return (positions >= start[:, None]) & (positions < start[:, None] + length)
