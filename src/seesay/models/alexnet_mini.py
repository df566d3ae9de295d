"""A small AlexNet, as course projects build it on Tiny ImageNet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from seesay.errors import InputError
from seesay.models.local_response import LocalResponseNorm, initialise_uniformly

WIDTHS = (32, 64, 128, 128, 64)


class AlexNetMini(nn.Module):
    """Five 3x3 convolutions of 32, 64, 128, 128 and 64 channels, three 2x2 max poolings, dense 1024 and 512, head.

    Pooling follows the first, the second and the last convolution. `normalisation` stands behind the first two
    (`local_response`, as published, with AlexNet's constants) or behind each (`batch`). Takes (N, 3, image_size,
    image_size) normalised floats, returns (N, num_classes) logits.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        normalisation: Literal["local_response", "batch"],
    ) -> None:
        super().__init__()
        if image_size % 8:
            raise InputError(f"alexnet_mini needs images whose side is a multiple of 8, got {image_size}")
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(WIDTHS):
            layers += [nn.Conv2d(channels, width, 3, padding=1)]
            if normalisation == "batch":
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            else:
                layers += [nn.ReLU(inplace=True)]
                layers += [LocalResponseNorm(width)] if index < 2 else []
            layers += [nn.MaxPool2d(2)] if index in (0, 1, 4) else []
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels * (image_size // 8) ** 2, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(1024, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(512, num_classes),
        )
        initialise_uniformly(self)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).flatten(1))
        return logits
