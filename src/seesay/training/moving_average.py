"""What the weights were, on average, over the last steps."""

from __future__ import annotations

import copy

import torch
from torch import nn

from seesay.params import training


class MovingAverage:
    """An exponential moving average of a model's weights and of its batch-norm statistics, as a model of its own.

    `decay` counts from few updates up, min(decay, (1 + n) / (10 + n)) at the n-th, so that the random first weights do
    not weigh on a short run (TensorFlow's `ExponentialMovingAverage` with `num_updates`). That, and that no update
    waits for the device, is why this is not `torch.optim.swa_utils.AveragedModel`.
    """

    def __init__(self, model: nn.Module, settings: training.MovingAverage) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.settings = settings

    def update(self, model: nn.Module, *, step: int) -> None:
        """Takes in `model`'s weights after optimizer step `step` (from 1), at every `every_steps`-th."""
        if step % self.settings.every_steps:
            return
        num_updates = step // self.settings.every_steps
        weight = 1.0 - min(self.settings.decay, (1 + num_updates) / (10 + num_updates))
        current = model.state_dict()
        with torch.no_grad():
            for name, average in self.model.state_dict().items():
                if average.is_floating_point():
                    average.lerp_(current[name], weight)
                else:
                    average.copy_(current[name])
