"""Which optimizer updates which parameters how."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seesay.params.training import AdamW, Sgd


def build_optimizer(model: nn.Module, settings: Sgd | AdamW, *, fused: bool) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters of `model`; `fused` asks for the single-kernel form (CUDA)."""
    groups = parameter_groups(model, weight_decay=settings.weight_decay)
    if isinstance(settings, Sgd):
        return torch.optim.SGD(
            groups,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=fused or None,
        )
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=fused or None)


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: tensors of two or more dimensions decay, biases and norms' scales do not.

    Decay pulls towards zero, which makes sense for a matrix, not for a scale that is meant to be near one.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
