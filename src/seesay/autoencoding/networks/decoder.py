"""A decoder of latent maps: residual blocks, and upsampling without checkerboards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.core.errors import InputError

RESIDUAL_INIT_SCALE = 0.2
"""Factor on the initial weights of a block's second convolution, so that a deep stack starts near the identity."""

_SQUARE = 4  # side of the pixel squares that are one position of a completion; no backbone has a smaller stride
_PHASES = 4  # each position becomes 2 x 2 positions


class MapDecoder(nn.Module):
    """A decoder of maps (N, channels_in, side, side) to (N, 3, 2^L * side, 2^L * side), with L the number of `widths`.

    At each of the L sizes there are `blocks` residual blocks of that width, except at the last and largest, which has
    one. After each size the map is upsampled by 2.
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


class Completion(nn.Module):
    """Completion of hidden pixels, from a decoded image and the visible pixels around them.

    It corrects the decoded image by `blocks` residual blocks of `width` channels, on squares of 4 x 4 pixels. At first
    it corrects nothing.
    """

    def __init__(self, *, width: int, blocks: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, 3 * _SQUARE**2, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(_SQUARE),
            nn.Conv2d(4 * _SQUARE**2, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(blocks)),
            last,
            nn.PixelShuffle(_SQUARE),
        )

    def forward(self, decoded: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
        """Return the completed images (N, 3, S, S); `decoded` and `images` alike, `hidden` bool (N, 1, S, S)."""
        seen = torch.where(hidden, decoded, images)  # nothing of what is hidden
        completed: Tensor = decoded + self.layers(torch.cat([seen, hidden.to(seen.dtype)], dim=1))
        return completed


def check_widths(widths: Sequence[int], *, side: int, image_size: int) -> None:
    """Raise `InputError` unless a `MapDecoder` of `widths` upsamples `side` to `image_size`."""
    if side * 2 ** len(widths) != image_size:
        raise InputError(
            f"decoder_widths: got {len(widths)} of them, which upsample a latent map of {side} positions a side to "
            f"{side * 2 ** len(widths)} pixels; the images have {image_size}"
        )


class EvenUpsampling(nn.Module):
    """A sub-pixel convolution without checkerboards: (N, channels_in, h, w) to (N, channels_out, 2h, 2w).

    In a sub-pixel convolution (Shi et al., 2016) each of the four new positions has a 3x3 kernel of its own, so that an
    edge can lie between them. Without a constraint a flat surface would become a checkerboard (Odena et al.,
    "Deconvolution and Checkerboard Artifacts", 2016). So each kernel's response to a constant is shifted to the mean of
    the four, in every forward pass and not only at initialisation (Aitken et al., 2017): a constant map stays constant,
    except at the border.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.channels_out = channels_out
        self.weight = nn.Parameter(torch.empty(_PHASES * channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as in torch.nn.Conv2d

    def forward(self, inputs: Tensor) -> Tensor:
        phases = self.weight.view(self.channels_out, _PHASES, *self.weight.shape[1:])
        response = phases.sum(dim=(3, 4), keepdim=True)
        even = phases + (response.mean(dim=1, keepdim=True) - response) / 9
        bias = self.bias.repeat_interleave(_PHASES)
        return F.pixel_shuffle(F.conv2d(inputs, even.reshape_as(self.weight), bias, padding=1), 2)


class ResidualBlock(nn.Module):
    """A residual block on (N, channels, h, w).

    It has no batch norm, as in EDSR (Lim et al., 2017): that loses the brightness a reconstruction has to preserve.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            second.weight.mul_(RESIDUAL_INIT_SCALE)
        self.layers = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True), second)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.layers(inputs)
        return outputs
