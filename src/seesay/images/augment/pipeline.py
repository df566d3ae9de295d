"""Random augmentation of training images in shape and colour, and cutout, for a whole batch at once on its device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from seesay.core.errors import InputError
from seesay.images.augment.colour import draw_jitter, jitter
from seesay.images.augment.geometry import (
    as_floats,
    draw_affine,
    draw_resized_crops,
    flip_maps,
    rectangles,
    resize,
    shift_maps,
    show,
)
from seesay.images.augment.mixing import Mixes, draw_mixes
from seesay.images.augment.trivial_augment import Operations, change_colours, draw_operations, operation_maps
from seesay.params.training import Augmentation
from seesay.seeding import torch_generator


@dataclass(frozen=True)
class Draws:
    """The random choices for n images. Each tensor has n rows; what is turned off is None.

    `top` and `left` (0 .. 2 * crop_padding) place the crop's window in the padded image. `cutout_top` and `cutout_left`
    place the square to blank, which always lies wholly inside the image. `maps` (n, 3, 3) combine all changes of shape,
    crop and flip included (`seesay.images.augment.geometry`); they are None where there is at most a padded crop and a
    flip. `colours` (n, 3) are the factors of the colour jitter.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    cutout_top: Tensor
    cutout_left: Tensor
    maps: Tensor | None = None
    colours: Tensor | None = None
    operations: Operations | None = None
    mixes: Mixes | None = None

    def to(self, device: torch.device) -> Draws:
        return self._each(lambda values: values.to(device))

    def __getitem__(self, chosen: slice) -> Draws:
        return self._each(lambda values: values[chosen])

    def _each(self, change: Callable[[Any], Any]) -> Draws:
        present = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        return replace(self, **{name: change(value) for name, value in present.items()})


def draw(
    num_images: int,
    augmentation: Augmentation,
    *,
    image_size: int,
    generator: torch.Generator,
    mirrored: Tensor | None = None,
) -> Draws:
    """Draw the random choices for `num_images` images; `mirrored`, bool (num_images,), replaces the random flips.

    They are drawn on the CPU, so the same generator state gives the same choices whatever the device.
    """
    if augmentation.crop_padding >= image_size:
        got = augmentation.crop_padding
        raise InputError(f"augmentation.crop_padding: got {got}: expected less than the image size, {image_size}")
    room = image_size - _cutout_side(augmentation, image_size)

    def upto(largest: int) -> Tensor:
        return torch.randint(largest + 1, (num_images,), generator=generator)

    # All of these are drawn whether used or not, so that turning one off does not change the others.
    padding = 2 * augmentation.crop_padding
    top, left = upto(padding), upto(padding)
    flip = torch.rand(num_images, generator=generator) < 0.5
    flip &= bool(augmentation.flip)
    flip = flip if mirrored is None else mirrored
    cutout_top, cutout_left = upto(room), upto(room)
    # For the same reason each of the following has a separate stream.
    seed = int(torch.randint(2**62, (), generator=generator))
    colours = operations = mixes = None
    if augmentation.colour_jitter is not None:
        colours = draw_jitter(num_images, augmentation.colour_jitter, generator=torch_generator(seed, "colours"))
    if augmentation.trivial_augment:
        operations = draw_operations(num_images, generator=torch_generator(seed, "operations"))
    if augmentation.mixing is not None:
        mixes = draw_mixes(num_images, augmentation.mixing, seed=seed)
    draws = Draws(top, left, flip, cutout_top, cutout_left, None, colours, operations, mixes)
    return replace(draws, maps=_draw_maps(draws, augmentation, image_size=image_size, seed=seed))


def _draw_maps(draws: Draws, augmentation: Augmentation, *, image_size: int, seed: int) -> Tensor | None:
    """Combine crop, flip, affine map and a geometric operation, applied in this order, into one map per image."""
    if augmentation.resized_crop is None and augmentation.affine is None and draws.operations is None:
        return None
    num_images = len(draws.top)
    if augmentation.resized_crop is not None:
        generator = torch_generator(seed, "resized_crop")
        maps = draw_resized_crops(num_images, augmentation.resized_crop, generator=generator)
    else:
        offset = torch.stack([draws.left, draws.top]) - augmentation.crop_padding
        maps = shift_maps(*(offset / image_size))
    maps = maps @ flip_maps(draws.flip)
    if augmentation.affine is not None:
        maps = maps @ draw_affine(num_images, augmentation.affine, generator=torch_generator(seed, "affine"))
    if draws.operations is not None:
        maps = maps @ operation_maps(draws.operations, image_size=image_size)
    return maps


def augment(
    images: Tensor,
    rows: Tensor,
    draws: Draws,
    augmentation: Augmentation,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    size: int | None = None,
) -> Tensor:
    """Return `images[rows]` with all augmentations but mixing: shape, size, colour, normalisation, cutout.

    `images` is the whole split, uint8 (N, S, S, 3), contiguous. `rows` is (n,), and `draws` are the random choices for
    these rows. All are on one device. Returns float32 (n, 3, size, size), channels last in memory. `size` is at most S,
    the default. Raises `InputError` for a `size` that is not between 1 and S.

    A padded crop is a window of the image padded by reflection. Cutout fills a square with the mean colour (DeVries and
    Taylor, 2017); its side is the share `augmentation.cutout` of the image's side.
    """
    stored_size = images.shape[1]
    size = stored_size if size is None else size
    if not 1 <= size <= stored_size:
        raise InputError(f"size of training images: got {size}: expected 1 to the stored images' {stored_size}")
    if draws.maps is not None:
        batch = show(images.index_select(0, rows), draws.maps, size=size)
    else:
        chosen = _crop(images, rows, draws, augmentation)
        batch = as_floats(chosen) if size == stored_size else resize(chosen, size=size)
    if draws.colours is not None and augmentation.colour_jitter is not None:
        batch = jitter(batch, draws.colours, augmentation.colour_jitter)
    if draws.operations is not None:
        batch = change_colours(batch, draws.operations)
    batch = _standardise(batch, mean=mean, std=std)
    side = _cutout_side(augmentation, size)
    if side:
        # The square's position was drawn in stored pixels: scale it to the range of positions at this size.
        room = max(stored_size - _cutout_side(augmentation, stored_size), 1)
        top, left = (place * (size - side) // room for place in (draws.cutout_top, draws.cutout_left))
        batch.masked_fill_(rectangles(top, top + side, left, left + side, size=size), 0.0)
    return batch.contiguous(memory_format=torch.channels_last)


def normalise(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Convert uint8 (n, S, S, 3) to normalised float32 (n, 3, S, S), channels last in memory.

    Each channel is (image / 255 - mean) / std.
    """
    batch = _standardise(as_floats(images), mean=mean, std=std)
    return batch.contiguous(memory_format=torch.channels_last)


def _crop(images: Tensor, rows: Tensor, draws: Draws, augmentation: Augmentation) -> Tensor:
    """Return `images[rows]`, uint8 (n, S, S, 3), cropped and flipped by indexing pixels."""
    if not (augmentation.flip or augmentation.crop_padding):
        return images.index_select(0, rows)
    size = images.shape[1]
    steps = torch.arange(size, device=images.device) - augmentation.crop_padding
    down = _reflect(draws.top[:, None] + steps, size)  # (n, S): the image's row for each row of the crop
    across = _reflect(draws.left[:, None] + steps, size)
    across = torch.where(draws.flip[:, None], across.flip(1), across)
    pixels = (rows[:, None, None] * size + down[:, :, None]) * size + across[:, None, :]
    return images.view(-1, 3).index_select(0, pixels.flatten()).view(-1, size, size, 3)


def _standardise(batch: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise float32 (n, 3, S, S), 0 to 255, in place."""
    shift = torch.tensor([255.0 * value for value in mean], device=batch.device)[:, None, None]
    scale = torch.tensor([1.0 / (255.0 * value) for value in std], device=batch.device)[:, None, None]
    return batch.sub_(shift).mul_(scale)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Mirror positions outside 0 .. size - 1 at the borders, which are not repeated: -1 becomes 1."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _cutout_side(augmentation: Augmentation, image_size: int) -> int:
    return round(augmentation.cutout * image_size)
