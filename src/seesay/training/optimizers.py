"""Which optimizer updates which parameters how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from seesay.params.training import AdamW, Sgd

RATE_SCALE = "rate_scale"
"""In an optimizer's group: by what its parameters' learning rate is multiplied."""


def build_optimizer(
    model: nn.Module, settings: Sgd | AdamW, *, fused: bool, rate_scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters of `model`; `fused` asks for the single-kernel form (CUDA).

    `rate_scales` gives parameters, by name, a learning rate of their own, as a share of the schedule's; others have 1.
    """
    groups = parameter_groups(model, weight_decay=settings.weight_decay, rate_scales=rate_scales)
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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives each group `rate`, times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_SCALE]


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, *, max_gradient_norm: float | None) -> None:
    """Moves the weights along the gradients, which are clipped before and gone after."""
    if max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def parameter_groups(
    model: nn.Module, *, weight_decay: float, rate_scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters in groups: tensors of two or more dimensions decay, biases and norms' scales do not.

    Decay pulls towards zero, which makes sense for a matrix, not for a scale that is meant to be near one. Parameters
    of different rate scales are in different groups.
    """
    scales = rate_scales or {}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for is_matrix in (True, False):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and (parameter.ndim >= 2) == is_matrix:
                groups.setdefault((scales.get(name, 1.0), is_matrix), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if is_matrix else 0.0, RATE_SCALE: scale}
        for (scale, is_matrix), parameters in groups.items()
    ]
