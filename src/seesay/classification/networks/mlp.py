"""A multi-layer perceptron on raw pixels: the baseline without any image-specific structure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear-ReLU-dropout for each of `hidden_sizes`, then a linear head.

    Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        hidden_sizes: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        super().__init__()
        sizes = [3 * image_size * image_size, *hidden_sizes]
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(size_in, size_out), nn.ReLU(inplace=True), nn.Dropout(dropout))
                for size_in, size_out in pairwise(sizes)
            )
        )
        self.head = nn.Linear(sizes[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images.flatten(1)))
        return logits
