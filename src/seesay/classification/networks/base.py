"""The interface of classifiers with a convolutional body."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

Pooling = Literal["max", "mean"]


class ConvolutionalClassifier(nn.Module):
    """A classifier whose `body` is the part before pooling and head.

    `body` takes (N, 3, S, S) normalised floats and returns the last feature map (N, C, h, w). `pooling` says how that
    map is reduced to one vector (N, C) where other tasks need one: over all positions, by the network's own pooling if
    it has global pooling.
    """

    body: nn.Sequential
    pooling: ClassVar[Pooling]
