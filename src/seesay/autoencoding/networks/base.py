"""What every autoencoder can be asked: an image's latent numbers, the image they stand for, and what is hidden."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LatentAutoencoder(nn.Module):
    """Images are (N, 3, S, S) floats in [0, 1]; latents are (N, ...), as many numbers an image as `latent_size` says.

    `mean` and `std` are the training images', per channel, by which images are normalised before they are encoded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((3, 1, 1), 0.25))

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """Numbers an image is squeezed into."""

    @abstractmethod
    def encode_normalised(self, images: Tensor) -> Tensor:
        """Latents of images that are normalised, hidden pixels 0."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """The images, in [0, 1], that latents stand for."""

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean.copy_(torch.tensor(mean).view(3, 1, 1))
        self.std.copy_(torch.tensor(std).view(3, 1, 1))

    def encode(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Latents. Pixels where `hidden`, bool (N, 1, S, S), is true become the mean before anything sees them."""
        normalised = (images - self.mean) / self.std
        if hidden is not None:
            normalised = normalised.masked_fill(hidden, 0.0)
        return self.encode_normalised(normalised)

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(images, hidden))


def within_range(images: Tensor) -> Tensor:
    """`images` cut to [0, 1], gradients passed on as if they were not: a pixel cut off can still be told to come back.

    A sigmoid would do, but squeezes what is nearly black or white.
    """
    return images + (images.clamp(0.0, 1.0) - images).detach()
