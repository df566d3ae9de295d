"""How alike two images are in structure (SSIM)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seesay.errors import InputError

WINDOW, SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of each pair of images, (n,), at most 1, which equal images have; (n, 3, H, W) floats in [0, 1].

    The mean over channels and over all places of a Gaussian window of 11 pixels a side and a deviation of 1.5, the
    image reflected at its border, with the constants of the paper (Wang et al., 2004): torchmetrics' numbers. Raises
    `InputError` for images too small to be reflected so far.
    """
    reach = WINDOW // 2
    if min(first.shape[-2:]) <= reach:
        raise InputError(f"SSIM: got images of {tuple(first.shape[-2:])} pixels: expected more than {reach} a side")
    n, channels = first.shape[:2]
    offsets = torch.arange(WINDOW, dtype=first.dtype, device=first.device) - reach
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights = weights / weights.sum()

    def blurred(values: Tensor) -> Tensor:
        planes = F.pad(values, (reach,) * 4, mode="reflect").flatten(0, 1)[:, None]
        planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
        return planes.view(n, channels, *planes.shape[-2:])

    mean1, mean2 = blurred(first), blurred(second)
    variance1 = (blurred(first.square()) - mean1.square()).clamp_min(0.0)
    variance2 = (blurred(second.square()) - mean2.square()).clamp_min(0.0)
    covariance = blurred(first * second) - mean1 * mean2
    brightness = (2 * mean1 * mean2 + _C1) / (mean1.square() + mean2.square() + _C1)
    structure = (2 * covariance + _C2) / (variance1 + variance2 + _C2)
    return (brightness * structure).mean(dim=(1, 2, 3))
