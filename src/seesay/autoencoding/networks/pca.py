"""The linear autoencoder: coordinates along the principal components of the training images."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.core.errors import InputError


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
