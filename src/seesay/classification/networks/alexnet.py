"""AlexNet for small images."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from seesay.classification.networks.plain_cnn import ConvolutionalClassifier
from seesay.core.errors import InputError

MINI_WIDTHS = (32, 64, 128, 128, 64)
"""Channels of the convolutions of `AlexNetMini`."""

LRN_SIZE, LRN_ALPHA, LRN_OFFSET = 5, 1e-4, 2.0
"""AlexNet's local response normalisation (Krizhevsky et al., 2012), with an exponent of 3/4."""

LARGE_LOGITS_MARGIN = 12.0
"""The `first_loss_margin` with batch norms: dense layers with Glorot's weights make large logits of their outputs.

With 750 seeds the first loss was 0.7 to 5.0 nats above that of equal probabilities; with logits scaled a hundredfold it
was at least 220 above.
"""


class AlexNet(ConvolutionalClassifier):
    """torchvision's variant of AlexNet (five convolutions, three dense layers) with a stem for 64x64 images.

    The stem is 5x5 with stride 2; the original's is 11x11 with stride 4. There are four times as many positions of a
    quarter of the area, so that images of 64 pixels reach the dense layers as 3x3 positions and not as one. With
    `batch_norm` a batch norm follows each convolution. Takes (N, 3, image_size, image_size) normalised floats, returns
    (N, num_classes) logits.
    """

    pooling = "mean"  # its own head takes all positions

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
        if batch_norm:
            self.first_loss_margin = LARGE_LOGITS_MARGIN
        if image_size < 32:
            raise InputError(f"alexnet needs an image size of at least 32, got {image_size}")

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


class AlexNetMini(ConvolutionalClassifier):
    """Five 3x3 convolutions of 32, 64, 128, 128 and 64 channels, three 2x2 max poolings, dense 1024 and 512, head.

    Pooling follows the first, the second and the last convolution. `normalisation` follows the first two
    (`local_response`, as published, with AlexNet's constants) or each of them (`batch`). Takes (N, 3, image_size,
    image_size) normalised floats, returns (N, num_classes) logits.
    """

    pooling = "mean"  # its own head takes all positions

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        normalisation: Literal["local_response", "batch"],
    ) -> None:
        super().__init__()
        if normalisation == "batch":
            self.first_loss_margin = LARGE_LOGITS_MARGIN
        if image_size % 8:
            raise InputError(f"alexnet_mini needs an image size divisible by 8, got {image_size}")
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(MINI_WIDTHS):
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


class LocalResponseNorm(nn.Module):
    """`nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)` of (N, channels, H, W), up to rounding.

    The sum over neighbouring channels is a 1x1 convolution with a banded matrix. On two cores its forward and backward
    pass in bfloat16 take a fifteenth of the time of torch's pooling over a fifth dimension.
    """

    band: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index).abs() <= LRN_SIZE // 2
        band = (near.float() * LRN_ALPHA / LRN_SIZE).view(channels, channels, 1, 1)
        self.register_buffer("band", band, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        root = (F.conv2d(inputs.square(), self.band) + LRN_OFFSET).rsqrt()
        return inputs * root * root.sqrt()  # divided by the sum to the power of 1/2 and of 1/4


def initialise_uniformly(network: nn.Module) -> None:
    """Apply Glorot and Bengio's (2010) uniform initialisation to convolutions and dense layers.

    It is Keras' default, which the published networks used. torch's default weights are smaller; in networks without
    norms the loss then does not move for epochs.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
