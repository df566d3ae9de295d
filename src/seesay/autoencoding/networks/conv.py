"""A convolutional autoencoder with a small latent map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from seesay.autoencoding.networks.base import LatentAutoencoder
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
