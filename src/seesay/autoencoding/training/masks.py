"""Which patches of an image are hidden."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seesay.core.errors import InputError
from seesay.params.autoencoding import Masking


def num_hidden(masking: Masking, *, image_size: int) -> int:
    """How many of an image's patches are hidden, the same for each image.

    Raises `InputError` where the patches do not fill the image, or the share of them is none or all.
    """
    if image_size % masking.patch_size:
        raise InputError(f"masking.patch_size: got {masking.patch_size}: expected a divisor of {image_size} pixels")
    num_patches = (image_size // masking.patch_size) ** 2
    count = round(masking.share * num_patches)
    if not 0 < count < num_patches:
        raise InputError(
            f"masking.share: got {masking.share}: hides {count} of {num_patches} patches; expected some, not all"
        )
    return count


def draw_hidden(num_images: int, masking: Masking, *, image_size: int, generator: torch.Generator) -> Tensor:
    """bool (num_images, P, P) with P patches a side, true where hidden; drawn on the CPU.

    Every image has as many hidden; raises `InputError` as `num_hidden` does.
    """
    count = num_hidden(masking, image_size=image_size)
    side = image_size // masking.patch_size
    order = torch.rand(num_images, side * side, generator=generator).argsort(dim=1)
    return (order < count).view(num_images, side, side)


def hidden_pixels(patches: Tensor, *, patch_size: int) -> Tensor:
    """bool (n, P, P) patches to bool (n, 1, S, S) pixels, with S = P * patch_size."""
    return F.interpolate(patches[:, None].float(), scale_factor=patch_size, mode="nearest").bool()
