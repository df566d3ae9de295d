"""How image features are brought to mean zero and variance one before a network sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEAST_STD = 0.05  # of the mean one: a feature that hardly ever moves is not blown up into noise


class FeatureScale(nn.Module):
    """Subtracts the training features' mean and divides by their standard deviation; does nothing until told them.

    Both are buffers, so that a checkpoint carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def measure(self, features: Tensor) -> None:
        """Takes mean and standard deviation, per dimension, of `features` (N, D)."""
        values = features.double()
        std = values.std(dim=0, correction=0)
        floor = (_LEAST_STD * std.mean()).clamp_min(1e-6)
        self.mean.copy_(values.mean(dim=0))
        self.std.copy_(torch.maximum(std, floor))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std
