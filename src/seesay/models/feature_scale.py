"""How image features are brought to mean zero and variance one before a network sees them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEAST_STD = 0.05  # of the mean one: a feature that hardly ever moves is not blown up into noise
_VALUES_AT_ONCE = 4_000_000  # in float64: 32 MB


class FeatureScale(nn.Module):
    """Subtracts the training features' mean and divides by their standard deviation; does nothing until told them.

    Features are pooled ones (N, D) or a grid's (N, L, D). Both are buffers (D,), so that a checkpoint carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def measure(self, features: Tensor) -> None:
        """Takes mean and standard deviation, per dimension, of `features` (N, D) or (N, L, D)."""
        self.measure_rows(features.cpu().numpy(), np.arange(len(features)))

    def measure_rows(self, array: np.ndarray, rows: np.ndarray) -> None:
        """As `measure`, of `array[rows]`, which may be a memory map: read in parts, summed in float64.

        Parts are merged by their means and sums of squared deviations (Chan et al. 1983), which loses no digits where
        a mean is large beside its deviation. `rows` is not empty.
        """
        assert len(rows) > 0
        num_dimensions = array.shape[-1]
        count = 0
        mean, squares = (torch.zeros(num_dimensions, dtype=torch.float64) for _ in range(2))
        num_at_once = max(1, _VALUES_AT_ONCE // int(np.prod(array.shape[1:])))
        for start in range(0, len(rows), num_at_once):
            part = torch.from_numpy(array[rows[start : start + num_at_once]]).reshape(-1, num_dimensions).double()
            part_variance, part_mean = torch.var_mean(part, dim=0, correction=0)
            before, count = count, count + len(part)
            difference = part_mean - mean
            mean += difference * (len(part) / count)
            squares += part_variance * len(part) + difference.square() * (before * len(part) / count)
        std = (squares / count).sqrt()
        floor = (_LEAST_STD * std.mean()).clamp_min(1e-6)
        self.mean.copy_(mean)
        self.std.copy_(torch.maximum(std, floor))

    def forward(self, features: Tensor) -> Tensor:
        """Of the features' shape, float32: float16 ones, as they are stored, may come as they are."""
        # Converted first and divided in place: a batch of grids is 32 MB, and operands of two kinds go one by one.
        return torch.sub(features.float(), self.mean).div_(self.std)
