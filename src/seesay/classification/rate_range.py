"""The learning-rate range test: the training loss at rates that rise from step to step."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from seesay.classification.networks.registry import restore_classifier
from seesay.classification.training.experiments import load_parents, start_network
from seesay.classification.training.fit import build_learning_step, image_size_at
from seesay.compute import Compute, configure
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_section
from seesay.images.batches import load_images, training_batches
from seesay.images.packed import MANIFEST_FILE, read_packed_images
from seesay.params.classification import ENSEMBLE, Classifier
from seesay.params.training import Runtime, Training
from seesay.seeding import seed_torch
from seesay.training.checks import TrainingError, check_trainable
from seesay.training.optim import build_optimizer, set_learning_rate, take_step
from seesay.training.steps import Step

B = TypeVar("B")

DIVERGED = 4.0
"""The test ends when the smoothed loss is this many times its lowest value so far."""

SMOOTHING = 0.03
"""Standard deviation of the Gaussian that smooths the losses, as a share of all steps: 3 of 100 steps."""

MIN_STEPS = 10

MIN_FALL = 0.01
"""A loss that falls by a smaller share of its first value is flat."""

SHARE_OF_LOWEST = 0.1
"""A suggested peak rate, as a share of the rate with the lowest loss.

Where the loss is lowest, training has already become unstable. fastai's `lr_find` suggests a tenth of that rate, beside
the rate where the loss falls fastest.
"""


@dataclass(frozen=True)
class RateRange:
    """The result of a range test.

    The lists have one entry per step: the rate, the loss as minimised, the smoothed loss. `stopped` is the reason why
    the test ended before its highest rate, or None.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    stopped: str | None

    @property
    def lowest_at(self) -> float:
        """The rate with the lowest smoothed loss; the first rate if the loss never fell."""
        return self.rates[self._lowest]

    @property
    def steepest_at(self) -> float | None:
        """The rate at which the smoothed loss falls fastest per factor of the rate; None if it never fell."""
        if self._lowest == 0:
            return None
        slopes = np.gradient(np.array(self.smoothed))[: self._lowest + 1]  # the rates' logarithms are evenly spaced
        return self.rates[int(np.argmin(slopes))]

    @property
    def is_flat(self) -> bool:
        """True if the loss fell by less than `MIN_FALL`, or by less than it varies from step to step."""
        first, fall = abs(self.smoothed[0]), self.smoothed[0] - self.smoothed[self._lowest]
        variation = np.std(np.subtract(self.losses, self.smoothed)[: self._lowest + 1])
        return bool(fall < MIN_FALL * first or fall < variation)

    @property
    def suggested(self) -> dict[str, float]:
        """Peak rates, each under the reason for it; none outside the rates tried, and none where the loss is flat."""
        if self.steepest_at is None or self.is_flat:
            return {}
        rates = {"where the loss falls fastest": self.steepest_at}
        if SHARE_OF_LOWEST * self.lowest_at >= self.rates[0]:
            rates[f"a tenth of {self.lowest_at:.2g}, where the loss is lowest"] = SHARE_OF_LOWEST * self.lowest_at
        return rates

    @property
    def falls_to_the_end(self) -> bool:
        """True if the loss is lowest at the highest rate tried: a higher one may be better still."""
        return self._lowest == len(self.rates) - 1

    @property
    def _lowest(self) -> int:
        return int(np.argmin(self.smoothed))


@dataclass(frozen=True)
class RangeTest:
    """A range test of one experiment.

    `images_per_step` and `image_size` (the side in pixels) are those of the test; `peak` is the rate in params.yaml.
    """

    result: RateRange
    dataset: str
    images_per_step: int
    image_size: int
    peak: float


def run_range_test(root: Path, cell: str, *, low: float, high: float, num_steps: int) -> RangeTest:
    """Run the range test of a classifier experiment in the workspace `root`.

    It trains a new network of the experiment's first seed with its batches, loss, optimizer and gradient clipping, on
    train images only, at the image size of the first epoch.

    Raises `InputError` for invalid rates or steps, an unknown experiment, an ensemble, and missing inputs: prepared
    images, published weights, a teacher.
    """
    _require_range(low=low, high=high, num_steps=num_steps)
    settings = read_section(root, f"classifiers.{cell}", Classifier)
    if settings.architecture.name == ENSEMBLE:
        key = f"{root / PARAMS_FILE}: classifiers.{cell}"
        raise InputError(f"{key}: an ensemble is not trained; test its members' experiment: {settings.parent}")
    training, augmentation = settings.training, settings.augmentation
    assert training is not None, "only an ensemble has none"
    paths = Paths(root)
    folder = paths.images(settings.dataset)
    if not (folder / MANIFEST_FILE).is_file():
        raise InputError(f"{folder}: no prepared images; first run: seesay repro prepare_images@{settings.dataset}")
    seed = settings.seeds[0] if settings.seeds else read_section(root, "seed", int)
    compute = configure(read_section(root, "runtime", Runtime))
    images = read_packed_images(folder)
    classifier, rate_scales = start_network(cell, settings, images, paths, seed=seed)
    teacher = None
    if settings.parent is not None:
        teacher = compute.place(restore_classifier(load_parents(settings, images, paths)[0])).requires_grad_(False)
    train = load_images(images.train, mean=images.channel_mean, std=images.channel_std, compute=compute)
    size = image_size_at(1, training.epochs, images.image_size, settings.progressive_resizing)
    epochs = (
        training_batches(
            train,
            epoch,
            batch_size=training.batch_size,
            augmentation=augmentation,
            seed=seed,
            size=size,
            num_classes=images.num_classes,
            balanced=settings.sampler is not None,
        )
        for epoch in count(1)
    )
    result = measure_range(
        classifier,
        training,
        batches=chain.from_iterable(epochs),
        compute_step=build_learning_step(settings, images, teacher=teacher, compute=compute),
        low=low,
        high=high,
        num_steps=num_steps,
        seed=seed,
        compute=compute,
        rate_scales=rate_scales,
    )
    images_per_step = min(training.batch_size, len(train)) * training.accumulate_batches
    return RangeTest(result, settings.dataset, images_per_step, size, training.optimizer.learning_rate)


def measure_range(
    model: nn.Module,
    training: Training,
    *,
    batches: Iterable[B],
    compute_step: Callable[[nn.Module, B], Step],
    low: float,
    high: float,
    num_steps: int,
    seed: int,
    compute: Compute,
    rate_scales: Mapping[str, float] | None = None,
) -> RateRange:
    """Train `model` (moved to the device, changed in place) for `num_steps` steps at rates from `low` to `high`.

    Each rate is the same factor above the one before (Smith, "Cyclical Learning Rates for Training Neural Networks",
    2017). `batches` must not run out; the other arguments are those of `fit`. The test ends early when the loss is not
    finite or the smoothed loss is `DIVERGED` times its lowest value. Raises `TrainingError` where the first loss is not
    finite.
    """
    check_trainable(model)
    model = compute.place(model).train()
    optimizer = build_optimizer(model, training.optimizer, fused=compute.device.type == "cuda", rate_scales=rate_scales)
    seed_torch(seed, "learning rates")  # for dropout
    remaining = iter(batches)
    rates, losses, stopped = [], [], None
    best = math.inf
    # `disable=None`: no bar where stderr is not a terminal.
    for rate in tqdm(_rising(low, high, num_steps), total=num_steps, leave=False, disable=None, file=sys.stderr):
        set_learning_rate(optimizer, rate)
        loss = _train_step(model, training, optimizer, remaining, compute_step, compute=compute)
        if not math.isfinite(loss):
            stopped = f"the loss is {loss} at {rate:.3g}"
            break
        rates.append(rate)
        losses.append(loss)
        current = smooth(losses, width=SMOOTHING * num_steps)[-1]
        best = min(best, current)
        if current > DIVERGED * best:
            stopped = f"the loss is more than {DIVERGED:g} times its lowest at {rate:.3g}"
            break
    if not rates:
        raise TrainingError(f"{stopped}, the first rate: start lower")
    return RateRange(rates, losses, smooth(losses, width=SMOOTHING * num_steps), stopped)


def smooth(values: list[float], *, width: float) -> list[float]:
    """Smooth `values` by a Gaussian of standard deviation `width` (in positions), renormalised at the ends."""
    positions = np.arange(len(values))
    weights = np.exp(-0.5 * ((positions[:, None] - positions) / width) ** 2)
    smoothed: list[float] = (weights @ np.array(values) / weights.sum(axis=1)).tolist()
    return smoothed


def _train_step(
    model: nn.Module,
    training: Training,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[B],
    compute_step: Callable[[nn.Module, B], Step],
    *,
    compute: Compute,
) -> float:
    """Make one optimizer step, as `fit` does; return the loss before it."""
    total = 0.0
    for _ in range(training.accumulate_batches):
        with compute.autocast():
            loss = compute_step(model, next(batches)).loss / training.accumulate_batches
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    take_step(model, optimizer, max_gradient_norm=training.max_gradient_norm)
    return total


def _rising(low: float, high: float, num_steps: int) -> Iterator[float]:
    for step in range(num_steps):
        yield low * (high / low) ** (step / (num_steps - 1))


def _require_range(*, low: float, high: float, num_steps: int) -> None:
    if not 0.0 < low < high < math.inf:
        raise InputError(f"--low and --high: got {low:g} and {high:g}: expected 0 < low < high")
    if num_steps < MIN_STEPS:
        raise InputError(f"--steps: got {num_steps}: expected {MIN_STEPS} or more")
