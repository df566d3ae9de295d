"""How a map of latents becomes an image again: residual blocks, and enlargements that leave no checkerboards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.core.errors import InputError


class MapDecoder(nn.Module):
    """(N, channels_in, side, side) to (N, 3, 2^L * side, 2^L * side), where L is the number of `widths`.

    At each of the L sizes from `side` on there are `blocks` residual blocks of that many channels, but for the last,
    the largest, which has one; then the map is enlarged twofold.
    """

    def __init__(self, channels_in: int, *, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels_in, widths[0], 3, padding=1)]
        for index, width in enumerate(widths):
            is_last = index == len(widths) - 1
            layers += [ResidualBlock(width) for _ in range(1 if is_last else blocks)]
            layers.append(EvenUpsampling(width, 3 if is_last else widths[index + 1]))
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.layers(latents)
        return images


def check_widths(widths: Sequence[int], *, side: int, image_size: int) -> None:
    """Raises `InputError` unless a `MapDecoder` of `widths` enlarges `side` to `image_size`."""
    if side * 2 ** len(widths) != image_size:
        raise InputError(
            f"decoder_widths: got {len(widths)} of them, which enlarge a latent map of {side} positions a side to "
            f"{side * 2 ** len(widths)} pixels; the images have {image_size}"
        )


_PHASES = 4  # each position becomes two by two


class EvenUpsampling(nn.Module):
    """(N, channels_in, h, w) to (N, channels_out, 2h, 2w): a sub-pixel convolution (Shi et al., 2016) of even response.

    Each of a position's four new ones has a 3x3 kernel of its own, so that an edge can lie between them; a surface
    without detail would come out as a checkerboard (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).
    Here each kernel's response to a constant is moved to the mean of the four, at every step and not only at first
    (Aitken et al., 2017): a constant map stays constant, apart from the border.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.channels_out = channels_out
        self.weight = nn.Parameter(torch.empty(_PHASES * channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's own convolutions

    def forward(self, inputs: Tensor) -> Tensor:
        phases = self.weight.view(self.channels_out, _PHASES, *self.weight.shape[1:])
        response = phases.sum(dim=(3, 4), keepdim=True)
        even = phases + (response.mean(dim=1, keepdim=True) - response) / 9
        bias = self.bias.repeat_interleave(_PHASES)
        return F.pixel_shuffle(F.conv2d(inputs, even.reshape_as(self.weight), bias, padding=1), 2)


FIRST_SHARE = 0.2
"""What the second convolution's first weights are scaled by: a deep stack then starts near the identity."""


class ResidualBlock(nn.Module):
    """(N, channels, h, w) to the same shape. No batch norm, as in EDSR (Lim et al., 2017): it blurs brightness, which a
    reconstruction has to keep."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            second.weight.mul_(FIRST_SHARE)
        self.layers = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True), second)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.layers(inputs)
        return outputs
