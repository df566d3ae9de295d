"""How images change colour: each with a strength of its own, a whole batch at once.

Images are float32 (n, 3, H, W), 0 to 255; factors, thresholds and bits are (n,). The definitions are torchvision's,
whose functions take one strength for all images; where those round each result to whole levels, these do not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seesay.params.augmentation import ColourJitter


def draw_jitter(num_images: int, settings: ColourJitter, *, generator: torch.Generator) -> Tensor:
    """Factors of brightness, contrast and saturation, (n, 3), each uniform between 1 - x and 1 + x."""
    limits = torch.tensor([settings.brightness, settings.contrast, settings.saturation])
    return 1.0 + limits * (2.0 * torch.rand((num_images, 3), generator=generator) - 1.0)


def jitter(images: Tensor, factors: Tensor, settings: ColourJitter) -> Tensor:
    """Brightness, contrast, then saturation by `factors` (n, 3); torchvision's ColorJitter shuffles the order."""
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
    """A factor of 0 blurs; the outermost pixels stay."""
    middle = images[:, :, 1:-1, 1:-1]
    blurred = (9.0 * F.avg_pool2d(images, 3, stride=1) + 4.0 * middle) / 13.0  # weights 1 around 5, as in Pillow
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = _blend(middle, blurred, factors)
    return result


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the upper `bits` of eight."""
    step = torch.exp2(8.0 - _per_image(bits))
    return (images / step).floor_() * step


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Inverts what is at least the threshold."""
    return torch.where(images >= _per_image(thresholds), 255.0 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched to 0 to 255; a channel of one level stays."""
    lowest = images.amin(dim=(2, 3), keepdim=True)
    span = images.amax(dim=(2, 3), keepdim=True) - lowest
    is_flat = span == 0
    stretched = (images - torch.where(is_flat, 0.0, lowest)) * (255.0 / torch.where(is_flat, 255.0, span))
    return stretched.clamp_(0.0, 255.0)


def equalize(images: Tensor) -> Tensor:
    """Each channel with its levels spread evenly, after rounding to whole ones."""
    from torchvision.transforms.v2.functional import equalize_image  # here: it takes seconds, and few trainings need it

    equalized: Tensor = equalize_image(images.round().to(torch.uint8))
    return equalized.to(torch.float32)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """`others` at a factor of 0, `images` at 1, beyond them above 1."""
    return torch.lerp(others, images, _per_image(factors)).clamp_(0.0, 255.0)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
