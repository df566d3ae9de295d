"""Optimizers, learning-rate schedules and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from seesay.params import training
from seesay.params.training import Muon, Optimizer, Schedule, Sgd

RATE_SCALE = "rate_scale"
"""The key in an optimizer's parameter group of the factor applied to the scheduled learning rate."""

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)

ONE_CYCLE_FIRST, ONE_CYCLE_LAST = 25.0, 1e4
"""The one-cycle rate starts at peak / 25 and ends at a ten-thousandth of that."""


def build_optimizer(
    model: nn.Module, settings: Optimizer, *, fused: bool, rate_scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Build an optimizer over the trainable parameters of `model`; `fused` asks for the single-kernel form (CUDA).

    `rate_scales` maps parameter names to factors applied to the scheduled learning rate; other parameters have 1.
    """
    scales = dict(rate_scales or {})
    if settings.norm_bias_rate != 1.0:
        for name in _norm_biases(model):
            scales[name] = scales.get(name, 1.0) * settings.norm_bias_rate
    groups = parameter_groups(model, weight_decay=settings.weight_decay, rate_scales=scales)
    optimizer: torch.optim.Optimizer
    if isinstance(settings, Sgd):
        optimizer = torch.optim.SGD(
            groups,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=fused or None,
        )
    elif isinstance(settings, Muon):
        from timm.optim.muon import Muon as TimmMuon  # slow import; torch's takes no convolutions

        optimizer = TimmMuon(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)
    else:
        betas = (settings.beta1, settings.beta2)
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=fused or None)
    if settings.lookahead is not None:
        from timm.optim.lookahead import Lookahead

        pull, every_steps = settings.lookahead.pull, settings.lookahead.every_steps
        optimizer = Lookahead(optimizer, alpha=pull, k=every_steps)  # type: ignore[no-untyped-call]
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set each group's learning rate to `rate` times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_SCALE]


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, *, max_gradient_norm: float | None) -> None:
    """Clip the gradients, update the weights and clear the gradients."""
    if max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def sharpest_nearby(model: nn.Module, radius: float) -> Iterator[None]:
    """Move the weights by `radius` along their gradients, clear these, and move the weights back at the end.

    A batch that is seen again in between leaves no trace in the batch norms' statistics.
    """
    trained = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    scale = radius / (nn.utils.get_total_norm([gradient for _, gradient in trained]) + 1e-12)
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, BATCH_NORMS)]
    kept = [parameter.detach().clone() for parameter, _ in trained]
    with torch.no_grad():
        for parameter, gradient in trained:
            parameter.add_(gradient * scale)
    model.zero_grad(set_to_none=True)
    for norm, _ in norms:
        norm.momentum = 0.0
    yield
    for norm, momentum in norms:
        norm.momentum = momentum
    with torch.no_grad():
        for (parameter, _), value in zip(trained, kept, strict=True):
            parameter.copy_(value)


def parameter_groups(
    model: nn.Module, *, weight_decay: float, rate_scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Group trainable parameters: weight decay applies to tensors of two or more dimensions only.

    Biases and norms' scales are exempt: decay pulls towards zero, which suits a matrix but not a scale that should stay
    near one. Parameters with different rate scales are in different groups.
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


def learning_rate_at(step: int, *, num_steps: int, peak: float, schedule: Schedule) -> float:
    """Return the learning rate of `step` (from 0) out of `num_steps`.

    Let w be `warmup_fraction` of all steps, rounded. Step s < w gets peak * (s + 1) / (w + 1), and step w the peak.
    From there `decay` goes towards zero, which step `num_steps` (one after the last) would reach. `one_cycle` is
    torch's `OneCycleLR` with its default factors, which has its peak at warmup_fraction * num_steps - 1.
    """
    assert 0 <= step < num_steps, f"step {step} of {num_steps}"
    if schedule.decay == "one_cycle":
        return _one_cycle(step, num_steps, peak, peak_step=schedule.warmup_fraction * num_steps - 1)
    warmup_steps = round(schedule.warmup_fraction * num_steps)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    share = (step - warmup_steps) / (num_steps - warmup_steps)
    match schedule.decay:
        case "constant":
            return peak
        case "linear":
            return peak * (1.0 - share)
        case "cosine":
            return _cosine(peak, 0.0, share)
        case "step":
            assert schedule.factor is not None, "a step schedule has a factor"
            num_passed = sum(step >= round(milestone * num_steps) for milestone in schedule.milestones)
            return peak * schedule.factor**num_passed


class MovingAverage:
    """An exponential moving average of a model's weights and batch-norm statistics, held in a separate model.

    The n-th update uses the decay min(decay, (1 + n) / (10 + n)), so that the random initial weights do not dominate a
    short run (TensorFlow's `ExponentialMovingAverage` with `num_updates`). `torch.optim.swa_utils.AveragedModel` has no
    such ramp, and its updates may wait for the device.
    """

    def __init__(self, model: nn.Module, settings: training.MovingAverage) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.settings = settings

    def update(self, model: nn.Module, *, step: int) -> None:
        """Average in `model`'s weights after optimizer step `step` (from 1), at every `every_steps`-th step."""
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


def _norm_biases(model: nn.Module) -> list[str]:
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, BATCH_NORMS)]
    return [f"{name}.bias" for name, norm in norms if norm.bias is not None]


def _one_cycle(step: int, num_steps: int, peak: float, *, peak_step: float) -> float:
    first = peak / ONE_CYCLE_FIRST
    if step <= peak_step:
        return _cosine(first, peak, step / peak_step) if peak_step else peak
    return _cosine(peak, first / ONE_CYCLE_LAST, (step - peak_step) / (num_steps - 1 - peak_step))


def _cosine(start: float, end: float, share: float) -> float:
    """Interpolate from `start` to `end` along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
