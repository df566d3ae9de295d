"""AlexNet for small images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from seesay.errors import InputError
from seesay.models.local_response import initialise_uniformly


class AlexNet(nn.Module):
    """Krizhevsky's AlexNet as torchvision has it (five convolutions, three dense layers), its stem for 64x64 images.

    The stem is 5x5 with stride 2 where the original has 11x11 with stride 4: four times as many positions of a quarter
    of the area, so that images of 64 pixels reach the dense layers as 3x3 and not as one pixel. `batch_norm` puts a
    batch norm behind each convolution. Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes)
    logits.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        dense_size: Annotated[int, Field(ge=1)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if image_size < 32:
            raise InputError(f"alexnet needs images of 32 pixels or more, got {image_size}")

        def convolution(channels_in: int, channels_out: int, side: int, *, stride: int = 1) -> list[nn.Module]:
            kernel = nn.Conv2d(channels_in, channels_out, side, stride=stride, padding=side // 2, bias=not batch_norm)
            norm = [nn.BatchNorm2d(channels_out)] if batch_norm else []
            return [kernel, *norm, nn.ReLU(inplace=True)]

        self.body = nn.Sequential(
            *convolution(3, 64, 5, stride=2),
            nn.MaxPool2d(3, stride=2),
            *convolution(64, 192, 5),
            nn.MaxPool2d(3, stride=2),
            *convolution(192, 384, 3),
            *convolution(384, 256, 3),
            *convolution(256, 256, 3),
            nn.MaxPool2d(3, stride=2),
        )
        side = image_size
        for window, stride, padding in ((5, 2, 2), (3, 2, 0), (3, 2, 0), (3, 2, 0)):
            side = (side + 2 * padding - window) // stride + 1
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, dense_size),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dense_size, dense_size),
            nn.ReLU(inplace=True),
            nn.Linear(dense_size, num_classes),
        )
        initialise_uniformly(self)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).flatten(1))
        return logits
