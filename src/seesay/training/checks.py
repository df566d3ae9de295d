"""Sanity checks before and during training, which make mistakes fail within seconds, and progress reports."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from seesay.core.errors import InputError

FIRST_LOSS_MARGIN = 1.5
"""How far, in nats, the first loss may lie above that of a network that gives all classes the same probability.

With 30 seeds of each architecture it was at most 0.4 above; with logits scaled a hundredfold, at least 2.6. A network
whose initial logits are larger by design has an attribute `first_loss_margin`.
"""


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
            f"the optimizer holds {len(in_optimizer)} parameters, but the model has {len(trainable)} trainable ones"
        )


def check_first_loss(loss: float, expected: float, model: nn.Module) -> None:
    """Raise `TrainingError` when the first loss is not what `model` can have before it has learned anything.

    `expected` is the loss of equal probabilities. Half of it is the lower bound.
    """
    margin = getattr(model, "first_loss_margin", FIRST_LOSS_MARGIN)
    if not expected / 2 <= loss <= expected + margin:
        raise TrainingError(
            f"the first loss is {loss:.4g}, but an untrained network has about {expected:.4g} "
            f"(allowed: {expected / 2:.4g} to {expected + margin:.4g}): "
            f"check the images' normalisation, the labels and the network's initialisation"
        )


def check_labels(labels: np.ndarray, num_classes: int, *, split: str) -> None:
    """Raise `TrainingError` unless the labels of a split are positions in a list of `num_classes` classes."""
    if labels.min() < 0 or labels.max() >= num_classes:
        raise TrainingError(
            f"the labels of {split} go from {labels.min()} to {labels.max()}: expected 0 to {num_classes - 1}, the "
            f"positions of {num_classes} classes"
        )


def check_next_tokens(inputs: Tensor, targets: Tensor) -> None:
    """Raise `TrainingError` unless each target is the token after its input; both are (B, T) token ids."""
    if not torch.equal(inputs[:, 1:], targets[:, :-1]):
        raise TrainingError("the targets are not the next tokens: expected the inputs, moved by one position")


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

    def resume(self, num_epochs: int, *, has_ended: bool) -> None:
        """Say that an earlier process has trained `num_epochs` epochs."""
        if has_ended:
            self._say(f"all {num_epochs} epochs are trained already")
        else:
            self._say(f"resuming at epoch {num_epochs + 1} of {self._num_epochs}")

    def interruption(self, num_epochs: int) -> str:
        """Describe a training that was interrupted after `num_epochs` complete epochs."""
        if num_epochs == 0:
            return f"interrupted in epoch 1 of {self._num_epochs}"
        return f"interrupted at epoch {num_epochs} of {self._num_epochs}"

    def finish(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.close()
        self._say(f"epoch {epoch}/{self._num_epochs}: {_compact(metrics)}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _compact(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
