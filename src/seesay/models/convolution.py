"""The convolution that every convolutional network here is stacked from."""

from __future__ import annotations

from torch import nn


def convolution(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU; `stride` 2 halves each side."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),  # the norm has a bias
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
