"""How a map of latents becomes an image again: residual blocks, and enlargements that leave no checkerboards."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from seesay.errors import InputError
from seesay.models.even_upsampling import EvenUpsampling
from seesay.models.residual_block import ResidualBlock


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
