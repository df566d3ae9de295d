"""The base class of all autoencoders: encoding with hidden pixels, and decoding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LatentAutoencoder(nn.Module):
    """An autoencoder of images (N, 3, S, S), floats in [0, 1].

    Latents are (N, ...), with `latent_size` numbers per image. Images are normalised by `mean` and `std`, the training
    images' per channel, before they are encoded.
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
        """Latent numbers per image."""

    @abstractmethod
    def encode_normalised(self, images: Tensor) -> Tensor:
        """Encode normalised images, in which hidden pixels are 0."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images in [0, 1]."""

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean.copy_(torch.tensor(mean).view(3, 1, 1))
        self.std.copy_(torch.tensor(std).view(3, 1, 1))

    def encode(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Encode images, with the pixels where `hidden`, bool (N, 1, S, S), is true replaced by the mean."""
        normalised = (images - self.mean) / self.std
        if hidden is not None:
            normalised = normalised.masked_fill(hidden, 0.0)
        return self.encode_normalised(normalised)

    def complete(self, latents: Tensor, images: Tensor, hidden: Tensor | None) -> Tensor:
        """Decode the latents of `images`. Where pixels are hidden, an autoencoder may also look at the visible ones."""
        return self.decode(latents)

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self.complete(self.encode(images, hidden), images, hidden)


def clamp_straight_through(images: Tensor) -> Tensor:
    """Clamp `images` to [0, 1], with gradients passed through unchanged so that clamped pixels still learn.

    A sigmoid would keep the range too, but compresses values near black and white.
    """
    return images + (images.clamp(0.0, 1.0) - images).detach()
