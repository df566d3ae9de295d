"""The block that decoders repeat: two convolutions beside an identity, without norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FIRST_SHARE = 0.2
"""What the second convolution's first weights are scaled by: a deep stack then starts near the identity."""


class ResidualBlock(nn.Module):
    """(N, channels, h, w) to the same shape. No batch norm, as in EDSR (Lim et al., 2017): it blurs brightness, which a
    reconstruction has to keep."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            second.weight.mul_(FIRST_SHARE)
        self.layers = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True), second)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.layers(inputs)
        return outputs
