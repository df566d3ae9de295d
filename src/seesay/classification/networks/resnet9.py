"""ResNet-9: a small residual network that trains fast."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from seesay.classification.networks.base import ConvolutionalClassifier
from seesay.classification.networks.plain_cnn import convolution
from seesay.core.errors import InputError

LOGIT_SCALE = 0.125
"""Max-pooled features are large: without this factor the first losses are far above ln(num_classes)."""


class ResNet9(ConvolutionalClassifier):
    """David Page's ResNet-9 (DAWNBench, "How to Train Your ResNet", 2018) with a stride-2 stem for 64x64 images.

    Channels are `width` times 1, 2, 4, 8: at width 32, with 64 pixels and 30 classes, 1.65 M parameters and 95 million
    multiply-adds. Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

    pooling = "max"

    def __init__(self, num_classes: int, image_size: int, *, width: Annotated[int, Field(ge=1)]) -> None:
        super().__init__()
        if image_size < 16:
            raise InputError(f"resnet9 needs an image size of at least 16, got {image_size}")
        self.body = nn.Sequential(
            convolution(3, width, stride=2),
            convolution(width, 2 * width),
            nn.MaxPool2d(2),
            _Residual(2 * width),
            convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            convolution(4 * width, 8 * width),
            nn.MaxPool2d(2),
            _Residual(8 * width),
        )
        self.head = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.body(images).amax(dim=(2, 3))
        logits: Tensor = self.head(pooled)
        return logits * LOGIT_SCALE


class _Residual(nn.Module):
    """Two convolutions with an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.convolutions(inputs)
        return outputs
