"""Convolutional autoencoders: plain, and with residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from seesay.autoencoding.networks.base import LatentAutoencoder, clamp_straight_through
from seesay.autoencoding.networks.decoder import MapDecoder, ResidualBlock, check_widths
from seesay.classification.networks.plain_cnn import convolution
from seesay.core.errors import InputError

REDUCTION = 8
"""Image pixels per latent position along each side: three strides of 2."""


class ConvAutoencoder(LatentAutoencoder):
    """A convolutional autoencoder of images (N, 3, image_size, image_size), floats in [0, 1].

    The latent map has `latent_channels` x image_size/8 x image_size/8 numbers (16 x 8 x 8 = 1,024 for 64 pixels). The
    decoder upsamples by nearest neighbours and convolves, which avoids the checkerboards of transposed convolutions
    (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016). Inputs are not normalised: batch norms do that.
    """

    def __init__(
        self,
        image_size: int,
        *,
        width: Annotated[int, Field(ge=1)],
        latent_channels: Annotated[int, Field(ge=1)],
    ) -> None:
        super().__init__()
        super().set_normalisation([0.0] * 3, [1.0] * 3)
        if image_size % REDUCTION:
            raise InputError(f"conv_autoencoder needs an image size divisible by {REDUCTION}, got {image_size}")
        self._latent_size = latent_channels * (image_size // REDUCTION) ** 2
        self.encoder = nn.Sequential(
            convolution(3, width, stride=2),
            convolution(width, 2 * width, stride=2),
            convolution(2 * width, 4 * width, stride=2),
            nn.Conv2d(4 * width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            convolution(latent_channels, 4 * width),
            nn.Upsample(scale_factor=2, mode="nearest"),
            convolution(4 * width, 2 * width),
            nn.Upsample(scale_factor=2, mode="nearest"),
            convolution(2 * width, width),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    @property
    def latent_size(self) -> int:
        return self._latent_size

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Leave inputs in [0, 1], unnormalised."""

    def encode_normalised(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images


STEM = 4
"""Side of the pixel squares that the first convolution takes as one position; at full resolution it would take most
of the time."""


class ResidualAutoencoder(LatentAutoencoder):
    """An autoencoder of residual blocks, without batch norm.

    The encoder takes images in 4x4 squares. It has `blocks` residual blocks of `width` channels, halves the size, has
    as many blocks of twice the width, and maps each position to `latent_channels` numbers: (image_size / 8)^2 times
    `latent_channels` latents (16 x 8 x 8 = 1,024 for 64 pixels). The decoder is a `MapDecoder` of three
    `decoder_widths`.
    """

    def __init__(
        self,
        image_size: int,
        *,
        width: Annotated[int, Field(ge=1)],
        blocks: Annotated[int, Field(ge=1)],
        latent_channels: Annotated[int, Field(ge=1)],
        decoder_widths: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)],
        decoder_blocks: Annotated[int, Field(ge=1)],
    ) -> None:
        super().__init__()
        if image_size % (2 * STEM):
            raise InputError(f"residual_autoencoder needs an image size divisible by {2 * STEM}, got {image_size}")
        self._side = image_size // (2 * STEM)
        check_widths(decoder_widths, side=self._side, image_size=image_size)
        self._latent_channels = latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(STEM),
            nn.Conv2d(3 * STEM**2, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * width, 2 * width, 1),
            *(ResidualBlock(2 * width) for _ in range(blocks)),
            nn.Conv2d(2 * width, latent_channels, 1),
        )
        self.decoder = MapDecoder(latent_channels, widths=decoder_widths, blocks=decoder_blocks)

    @property
    def latent_size(self) -> int:
        return self._latent_channels * self._side**2

    def encode_normalised(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return clamp_straight_through(self.decoder(latents) * self.std + self.mean)
