"""Crops, flips, rotations and shears as one affine map per image, so that each image is sampled only once.

Maps are float32 (n, 3, 3). A map takes a point of the output picture to the point of the input image that is shown
there. Points are (x, y, 1), measured from the centre in units of the image's side: -0.5 to 0.5, y downwards. In a
product of maps, the left factor is the operation that is applied to the image first.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seesay.params.training import Affine, ResizedCrop

CROP_ATTEMPTS = 10
"""The number of windows tried per image before the whole image is taken, as in torchvision."""


def identity_maps(num_images: int) -> Tensor:
    return torch.eye(3).repeat(num_images, 1, 1)


def shift_maps(across: Tensor, down: Tensor) -> Tensor:
    """Return maps that show the image's point (across, down) at the picture's centre; both are (n,), in sides."""
    maps = identity_maps(len(across))
    maps[:, 0, 2], maps[:, 1, 2] = across, down
    return maps


def flip_maps(flip: Tensor) -> Tensor:
    """Return maps that mirror left to right where `flip`, bool (n,), is true."""
    maps = identity_maps(len(flip))
    maps[:, 0, 0] = 1.0 - 2.0 * flip
    return maps


def draw_resized_crops(num_images: int, settings: ResizedCrop, *, generator: torch.Generator) -> Tensor:
    """Draw maps that show a random window at full size: area uniform, aspect log-uniform, place uniform.

    The window is the first of ten that fits into the image, or else the whole image, as in torchvision's
    RandomResizedCrop. There are two differences: windows need not start at whole pixels, and interpolation at their
    edges uses pixels outside the window.
    """
    shape = (num_images, CROP_ATTEMPTS)
    area = _uniform(shape, settings.min_area, settings.max_area, generator)
    largest = math.log(settings.max_aspect)
    aspect = _uniform(shape, -largest, largest, generator).exp()
    place = torch.rand((num_images, 2), generator=generator)
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (width <= 1.0) & (height <= 1.0)
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    sides = torch.stack([width.gather(1, first), height.gather(1, first)], dim=2)[:, 0]
    sides = torch.where(fits.any(dim=1, keepdim=True), sides, 1.0)
    maps = shift_maps(*((place - 0.5) * (1.0 - sides)).unbind(1))
    maps[:, 0, 0], maps[:, 1, 1] = sides.unbind(1)
    return maps


def draw_affine(num_images: int, settings: Affine, *, generator: torch.Generator) -> Tensor:
    """Draw maps that shear, zoom, rotate about the centre and translate images.

    Each amount is uniform between minus and plus its limit.
    """
    limits = (settings.rotation, settings.shear, settings.zoom, settings.translation, settings.translation)
    drawn = [limit * _uniform((num_images,), -1.0, 1.0, generator) for limit in limits]
    rotation, shear, zoom, across, down = drawn
    return affine_maps(rotation=rotation, shear=shear, zoom=1.0 + zoom, across=across, down=down)


def affine_maps(*, rotation: Tensor, shear: Tensor, zoom: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Return maps that shear images along x, magnify them, rotate them clockwise and translate them.

    Signs are those of torchvision's `affine`. Each argument is (n,), angles in degrees, translations in sides.
    """
    angle, slope = rotation.deg2rad(), shear.deg2rad().tan()
    cos, sin = angle.cos(), angle.sin()
    # The inverse of rotation times zoom times [[1, -slope], [0, 1]].
    maps = identity_maps(len(rotation))
    maps[:, 0, 0], maps[:, 0, 1] = (cos - sin * slope) / zoom, (sin + cos * slope) / zoom
    maps[:, 1, 0], maps[:, 1, 1] = -sin / zoom, cos / zoom
    return maps @ shift_maps(-across, -down)


def show(images: Tensor, maps: Tensor, *, size: int) -> Tensor:
    """Apply maps (n, 3, 3) to images, uint8 (n, S, S, 3), by bilinear sampling.

    Returns float32 (n, 3, size, size), 0 to 255. Beyond its edges an image is mirrored at its outermost pixels, which
    are not repeated.
    """
    side = images.shape[1]
    # With `align_corners`, -1 and 1 are the centres of the outermost pixels, half a pixel inside the image's edges.
    scaled = maps[:, :2] * (2.0 * side / max(side - 1, 1))
    steps = (torch.arange(size, device=maps.device) + 0.5) / size - 0.5
    grid = torch.empty(len(images), size, size, 2, device=maps.device)
    for axis in range(2):
        from_across, from_down, start = scaled[:, axis].unbind(1)
        rows = from_down[:, None] * steps + start[:, None]
        torch.add(rows[:, :, None], (from_across[:, None] * steps)[:, None, :], out=grid[..., axis])
    return F.grid_sample(as_floats(images), grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def resize(images: Tensor, *, size: int) -> Tensor:
    """Resize uint8 (n, S, S, 3) to float32 (n, 3, size, size), 0 to 255, bilinear with antialiasing.

    On CPUs images are resized as uint8, with rounded results, which is several times faster there. On other devices
    they are resized as floats.
    """
    if images.device.type != "cpu":
        return F.interpolate(as_floats(images), size=(size, size), mode="bilinear", antialias=True)
    resized = F.interpolate(images.permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True)
    return as_floats(resized.permute(0, 2, 3, 1))


def as_floats(images: Tensor) -> Tensor:
    """Convert uint8 (n, S, S, 3) to contiguous float32 (n, 3, S, S), 0 to 255.

    Most pixelwise operations are faster on contiguous tensors than with channels last. The gain is more than the cost
    of the two copies.
    """
    return images.permute(0, 3, 1, 2).contiguous().to(torch.float32)


def rectangles(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, *, size: int) -> Tensor:
    """Return masks, bool (n, 1, size, size): true in rows `top` to `bottom` - 1 and columns `left` to `right` - 1.

    The four arguments are (n,).
    """
    positions = torch.arange(size, device=top.device)
    rows = (positions >= top[:, None]) & (positions < bottom[:, None])
    columns = (positions >= left[:, None]) & (positions < right[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _uniform(shape: tuple[int, ...], lowest: float, highest: float, generator: torch.Generator) -> Tensor:
    return lowest + (highest - lowest) * torch.rand(shape, generator=generator)
