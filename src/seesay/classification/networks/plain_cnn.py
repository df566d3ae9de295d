"""Perceptrons and plain convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from seesay.core.errors import InputError

Pooling = Literal["max", "mean"]


class ConvolutionalClassifier(nn.Module):
    """A classifier whose `body` is the part before pooling and head.

    `body` takes (N, 3, S, S) normalised floats and returns the last feature map (N, C, h, w). `pooling` says how that
    map is reduced to one vector (N, C) where other tasks need one: over all positions, by the network's own pooling if
    it has global pooling.
    """

    body: nn.Sequential
    pooling: ClassVar[Pooling]


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


class PlainCNN(ConvolutionalClassifier):
    """Two convolutions and 2x2 max pooling per entry of `widths` (their channels), then mean, dropout and head.

    The first convolution has stride 2: at full resolution, the first two would cost four times as much.
    Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

    pooling = "mean"

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        widths: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        super().__init__()
        smallest = 2 ** (len(widths) + 1)  # one pixel is left after the last pooling
        if image_size < smallest:
            raise InputError(
                f"widths: {len(widths)} blocks need an image size of at least {smallest}, got {image_size}"
            )
        blocks: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(widths):
            blocks += [
                convolution(channels, width, stride=2 if index == 0 else 1),
                convolution(width, width, stride=1),
            ]
            blocks.append(nn.MaxPool2d(2))
            channels = width
        self.body = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.body(images).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def convolution(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, batch norm and ReLU; `stride` 2 halves each side."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),  # the norm has the bias
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
