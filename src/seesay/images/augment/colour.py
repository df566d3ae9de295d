"""Colour changes of a whole batch at once, with a separate strength for each image.

Images are float32 (n, 3, H, W), 0 to 255. Factors, thresholds and bits are (n,). The definitions are torchvision's,
with two differences. torchvision's functions take one strength for all images. They also round each result to whole
levels, which these functions do not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seesay.params.training import ColourJitter


def draw_jitter(num_images: int, settings: ColourJitter, *, generator: torch.Generator) -> Tensor:
    """Draw factors of brightness, contrast and saturation, (n, 3).

    Each is uniform between 1 - x and 1 + x, where x is its setting.
    """
    limits = torch.tensor([settings.brightness, settings.contrast, settings.saturation])
    return 1.0 + limits * (2.0 * torch.rand((num_images, 3), generator=generator) - 1.0)


def jitter(images: Tensor, factors: Tensor, settings: ColourJitter) -> Tensor:
    """Change brightness, then contrast, then saturation by `factors` (n, 3).

    torchvision's ColorJitter shuffles the order.
    """
    brightness, contrast, saturation = factors.unbind(1)
    if settings.brightness:
        images = adjust_brightness(images, brightness)
    if settings.contrast:
        images = adjust_contrast(images, contrast)
    if settings.saturation:
        images = adjust_saturation(images, saturation)
    return images


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    return (images * _per_image(factors)).clamp_(0.0, 255.0)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean(dim=(2, 3), keepdim=True), factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, _grey(images), factors)


def adjust_sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blur at a factor below 1, sharpen above 1. The outermost pixels do not change."""
    middle = images[:, :, 1:-1, 1:-1]
    blurred = (9.0 * F.avg_pool2d(images, 3, stride=1) + 4.0 * middle) / 13.0  # Pillow's kernel: 1 around 5
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = _blend(middle, blurred, factors)
    return result


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper `bits` of the eight bits of each level."""
    step = torch.exp2(8.0 - _per_image(bits))
    return (images / step).floor_() * step


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the values that are at least the threshold."""
    return torch.where(images >= _per_image(thresholds), 255.0 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to 0 to 255. A channel of one level does not change."""
    lowest = images.amin(dim=(2, 3), keepdim=True)
    span = images.amax(dim=(2, 3), keepdim=True) - lowest
    is_flat = span == 0
    stretched = (images - torch.where(is_flat, 0.0, lowest)) * (255.0 / torch.where(is_flat, 255.0, span))
    return stretched.clamp_(0.0, 255.0)


def equalize(images: Tensor) -> Tensor:
    """Round to whole levels, then equalise the histogram of each channel."""
    from torchvision.transforms.v2.functional import equalize_image  # slow import that few trainings need

    equalized: Tensor = equalize_image(images.round().to(torch.uint8))
    return equalized.to(torch.float32)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Blend by factor: `others` at 0, `images` at 1, extrapolated above 1, clipped to 0 to 255."""
    return torch.lerp(others, images, _per_image(factors)).clamp_(0.0, 255.0)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
