"""Random masks that hide patches of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seesay.core.errors import InputError
from seesay.params.autoencoding import Masking


def num_hidden_patches(masking: Masking, *, image_size: int) -> int:
    """Return the number of hidden patches per image, the same for every image.

    Raises `InputError` if the patches do not tile the image, or if none or all of them would be hidden.
    """
    if image_size % masking.patch_size:
        raise InputError(
            f"masking.patch_size: got {masking.patch_size}: expected a divisor of the image size, {image_size}"
        )
    num_patches = (image_size // masking.patch_size) ** 2
    count = round(masking.share * num_patches)
    if not 0 < count < num_patches:
        raise InputError(
            f"masking.share: got {masking.share}, which hides {count} of {num_patches} patches: "
            f"expected 1 to {num_patches - 1}"
        )
    return count


def sample_hidden_patches(num_images: int, masking: Masking, *, image_size: int, generator: torch.Generator) -> Tensor:
    """Sample masks, bool (num_images, P, P) with P patches a side, true where hidden, on the CPU.

    Every image has the same number of hidden patches. Raises `InputError` as `num_hidden_patches` does.
    """
    count = num_hidden_patches(masking, image_size=image_size)
    side = image_size // masking.patch_size
    order = torch.rand(num_images, side * side, generator=generator).argsort(dim=1)
    return (order < count).view(num_images, side, side)


def cut_patches(images: Tensor, patches: Tensor) -> Tensor:
    """Cut the selected patches from images (n, C, S, S), image by image: (m, C, S / P, S / P).

    `patches`, bool (n, P, P), selects m patches.
    """
    count, channels, size, _ = images.shape
    per_side = patches.shape[1]
    side = size // per_side
    squares = images.reshape(count, channels, per_side, side, per_side, side).permute(0, 2, 4, 1, 3, 5)
    return squares[patches]


def hidden_pixels(patches: Tensor, *, patch_size: int) -> Tensor:
    """Enlarge masks of patches, bool (n, P, P), to masks of pixels, bool (n, 1, S, S), with S = P * patch_size."""
    return F.interpolate(patches[:, None].float(), scale_factor=patch_size, mode="nearest").bool()
