"""The interface of autoencoders, and the linear one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from seesay.core.errors import InputError


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


class PcaAutoencoder(LatentAutoencoder):
    """A linear autoencoder with `num_components` latents.

    No linear autoencoder of the same latent size has a smaller mean squared error on the images that it was fitted on
    (Eckart and Young, 1936).
    """

    center: Tensor
    components: Tensor

    def __init__(self, image_size: int, *, num_components: Annotated[int, Field(ge=1)]) -> None:
        super().__init__()
        num_values = 3 * image_size**2
        if num_components > num_values:
            raise InputError(
                f"num_components: got {num_components}: expected at most {num_values}, the values of an image"
            )
        self.image_size = image_size
        self.register_buffer("center", torch.zeros(num_values))
        self.register_buffer("components", torch.zeros(num_components, num_values))

    @property
    def latent_size(self) -> int:
        return len(self.components)

    def encode_normalised(self, images: Tensor) -> Tensor:
        pixels = images * self.std + self.mean
        return (pixels.flatten(1) - self.center) @ self.components.T

    def decode(self, latents: Tensor) -> Tensor:
        pixels = latents @ self.components + self.center
        return pixels.view(-1, 3, self.image_size, self.image_size).clamp(0.0, 1.0)
