"""Sanity checks before and during training, which make mistakes fail within seconds, and progress reports."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import nn
from tqdm import tqdm

from seesay.core.errors import InputError

FIRST_LOSS_FACTOR = 2.0
"""The largest allowed ratio between the first loss and that of an untrained network, in either direction."""


class TrainingError(InputError):
    """Training cannot continue; the message says where it stopped and what to change."""


def check_trainable(model: nn.Module) -> None:
    """Raise `TrainingError` for a model without trainable parameters."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError("the model has no trainable parameters")


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise `TrainingError` unless the optimizer holds exactly the model's trainable parameters, each once."""
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    in_optimizer = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    missing = [name for key, name in trainable.items() if key not in set(in_optimizer)]
    if missing:
        raise TrainingError(f"the optimizer lacks {len(missing)} trainable parameters: {', '.join(missing[:5])}")
    if len(in_optimizer) != len(trainable):
        raise TrainingError(
            f"the optimizer holds {len(in_optimizer)} parameters, the model {len(trainable)} trainable ones"
        )


def check_first_loss(loss: float, expected: float) -> None:
    """Raise `TrainingError` when the first loss is not within `FIRST_LOSS_FACTOR` of the expected one."""
    if not expected / FIRST_LOSS_FACTOR <= loss <= expected * FIRST_LOSS_FACTOR:
        raise TrainingError(
            f"the first loss is {loss:.4g}, an untrained network has about {expected:.4g} (allowed: a factor of "
            f"{FIRST_LOSS_FACTOR:g}): check the images' normalisation, the labels and the network's initialisation"
        )


def check_finite(loss: float, *, epoch: int, step: int, num_batches: int, learning_rate: float) -> None:
    """Raise `TrainingError` when `loss` is NaN or infinite; `step` counts from 1 within the epoch."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} in epoch {epoch}, step {step} of {num_batches}, at learning rate {learning_rate:.3g}: "
            "lower optimizer.learning_rate, warm up longer (schedule.warmup_fraction) or set max_gradient_norm"
        )


class Progress:
    """Progress reports on stderr; epochs and steps count from 1."""

    def __init__(self, *, num_epochs: int, num_batches: int) -> None:
        self._num_epochs, self._num_batches = num_epochs, num_batches
        self._bar: tqdm[NoReturn] | None = None

    def start(self, epoch: int) -> None:
        if sys.stderr.isatty():
            label = f"epoch {epoch}/{self._num_epochs}"
            self._bar = tqdm(total=self._num_batches, desc=label, unit="batch", leave=False, file=sys.stderr)

    def show(self, num_steps: int, metrics: Mapping[str, float]) -> None:
        """Show that the epoch's first `num_steps` are done, with their mean `metrics`."""
        if self._bar is not None:
            self._bar.set_postfix_str(_compact(metrics), refresh=False)
            self._bar.update(num_steps - self._bar.n)

    def finish(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.close()
        sys.stderr.write(f"epoch {epoch}/{self._num_epochs}: {_compact(metrics)}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _compact(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
