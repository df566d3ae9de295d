"""The training loop shared by all models, which returns the weights of the best epoch."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from seesay.compute import Compute
from seesay.params.training import Training
from seesay.seeding import seed_torch
from seesay.training import optim
from seesay.training.checks import (
    Progress,
    TrainingError,
    check_finite,
    check_first_loss,
    check_optimizer,
    check_trainable,
)
from seesay.training.resume import Resumable, TrainingState, copy_to_cpu
from seesay.training.steps import Means, Step

B = TypeVar("B")

READ_LOSSES_EVERY = 32
"""Steps between two reads of the losses: each read waits for the device."""


class Log(Protocol):
    def __call__(self, metrics: dict[str, float], *, step: int) -> None: ...


@dataclass(frozen=True)
class BestBy:
    """The metric by which the best epoch is selected, and its direction.

    Of epochs with equal values the one with the lower val/loss wins, and of equal ones among these the earliest.
    """

    metric: str
    highest: bool

    def is_better(self, row: Mapping[str, float], best: Mapping[str, float]) -> bool:
        return self._rank(row) < self._rank(best)

    def warn_if_constant(self, history: Sequence[Mapping[str, float]], best_epoch: int) -> None:
        """Warn where the metric cannot tell several epochs apart."""
        values = {row[self.metric] for row in history}
        if len(history) > 1 and len(values) == 1 and self.metric != "val/loss":
            warnings.warn(
                f"{self.metric} is {values.pop():.4g} after each of {len(history)} epochs and cannot tell them apart: "
                f"epoch {best_epoch}, which has the lowest val/loss, is kept",
                stacklevel=2,
            )

    def _rank(self, row: Mapping[str, float]) -> tuple[float, float]:
        value = row[self.metric]
        return (-value if self.highest else value, row["val/loss"])


LOWEST_LOSS = BestBy("val/loss", highest=False)


@dataclass(frozen=True)
class Fit:
    """The best epoch's weights on the CPU (those of the moving average, if there is one) and its metrics.

    `metrics` holds that epoch's training and evaluation metrics, `best_epoch` and `num_epochs` (the number of epochs
    run). `core_seconds` is the processor time of all epochs over all threads, including epochs before an interruption.
    """

    state_dict: dict[str, Tensor]
    metrics: dict[str, float]
    core_seconds: float


def fit(
    model: nn.Module,
    training: Training,
    *,
    batches: Callable[[int], Iterable[B]],
    num_batches: int,
    compute_step: Callable[[nn.Module, B], Step],
    evaluate: Callable[[nn.Module], dict[str, float]],
    expected_first_loss: float | None,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
    rate_scales: Mapping[str, float] | None = None,
    best_by: BestBy = LOWEST_LOSS,
) -> Fit:
    """Fit `model` (moved to the device, changed in place) and return its best epoch, which also governs patience.

    `batches(epoch)` returns the `num_batches` batches of an epoch (from 1), on the device; they depend on seed and
    epoch only. `compute_step(model, batch)` runs under autocast, in training mode. `evaluate(model)` runs in evaluation
    mode, without gradients, in float32, and returns at least `val/loss` and `best_by.metric`. `log(metrics,
    step=epoch)` is called once per epoch. `rate_scales`: see `build_optimizer`.

    Raises `TrainingError` for a loss that is not finite and for a first loss far from `expected_first_loss` (None: no
    check). `resume` is a folder for the state of the run; its owner removes it. A run that is started again continues
    after its last complete epoch, logs the earlier epochs again and ends with the same bytes as an uninterrupted one;
    after the last epoch it trains nothing. A `KeyboardInterrupt` gets a note that says how far the training was.
    """
    assert num_batches > 0, "an epoch has at least one batch"
    check_trainable(model)
    ranks = compute.ranks
    if compute.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    compute.place(model)
    optimizer = optim.build_optimizer(
        model, training.optimizer, fused=compute.device.type == "cuda", rate_scales=rate_scales
    )
    check_optimizer(model, optimizer)
    average = None if training.moving_average is None else optim.MovingAverage(model, training.moving_average)
    resumable = Resumable(ranks.from_first(resume), model, optimizer, average)
    description = [training.model_dump_json(), str(seed), str(num_batches), str(compute.autocast_dtype)]
    if best_by != LOWEST_LOSS:
        description.append(str(best_by))
    if ranks.count > 1:
        description.append(f"{ranks.count} processes, sync_batch_norm {compute.sync_batch_norm}")
    state = resumable.load(*description, compute.device.type)
    for epoch, row in enumerate(state.history, start=1):
        log(row, step=epoch)

    run_step = ranks.parallel(model, _Stepper(model, compute_step, compile_model=compute.compile))
    progress = Progress(num_epochs=training.epochs, num_batches=num_batches)

    def has_ended() -> bool:
        return state.num_epochs >= training.epochs or state.is_out_of_patience(training.patience)

    num_saved = state.num_epochs
    if num_saved:
        progress.resume(num_saved, has_ended=has_ended())
    try:
        while not has_ended():
            epoch, started = state.num_epochs + 1, time.process_time()
            seed_torch(
                seed, "epoch", epoch, *ranks.stream
            )  # for dropout: a resumed run then has the same random numbers
            progress.start(epoch)
            row = _train_epoch(
                epoch,
                model,
                training,
                optimizer=optimizer,
                average=average,
                batches=batches(epoch),
                num_batches=num_batches,
                run_step=run_step,
                expected_first_loss=expected_first_loss if epoch == 1 else None,
                compute=compute,
                progress=progress,
            )
            candidate = model if average is None else average.model
            candidate.eval()
            ranks.share_buffers(candidate)
            with torch.no_grad():
                row = {**row, **evaluate(candidate)}
            _add_epoch(state, row, candidate, best_by)
            state.core_seconds += sum(ranks.gather([time.process_time() - started]))
            if ranks.is_first:
                resumable.save(state)
            num_saved = epoch
            progress.finish(epoch, row)
            log(row, step=epoch)
    except KeyboardInterrupt as interruption:
        interruption.add_note(progress.interruption(num_saved))
        raise
    finally:
        progress.close()
    best_by.warn_if_constant(state.history, state.best_epoch)
    counts = {"best_epoch": float(state.best_epoch), "num_epochs": float(state.num_epochs)}
    metrics = {name: value for name, value in state.best.items() if name != "learning_rate"}
    return Fit(state.best_state, {**metrics, **counts}, state.core_seconds)


def _train_epoch(
    epoch: int,
    model: nn.Module,
    training: Training,
    *,
    optimizer: torch.optim.Optimizer,
    average: optim.MovingAverage | None,
    batches: Iterable[B],
    num_batches: int,
    run_step: Callable[[B], Step],
    expected_first_loss: float | None,
    compute: Compute,
    progress: Progress,
) -> dict[str, float]:
    """Train on `batches` once; return the metrics' means over all examples and the last learning rate."""
    model.train()
    ranks = compute.ranks
    means = Means(ranks)
    rates: list[float] = []
    group_size = training.accumulate_batches
    peak, schedule = training.optimizer.learning_rate, training.schedule
    num_steps = math.ceil(num_batches / group_size)  # per epoch; the last step may have fewer batches
    for index, batch in enumerate(batches):
        assert index < num_batches, f"got more than the expected {num_batches} batches"
        step = (epoch - 1) * num_steps + index // group_size
        rate = optim.learning_rate_at(step, num_steps=training.epochs * num_steps, peak=peak, schedule=schedule)
        rates.append(rate)
        optim.set_learning_rate(optimizer, rate)
        with compute.autocast():
            result = run_step(batch)
        if index == 0 and expected_first_loss is not None and math.isfinite(first := float(result.loss.detach())):
            check_first_loss(first, expected_first_loss, model)
        num_in_group = min(group_size, num_batches - index // group_size * group_size)
        loss = ranks.weigh(result.loss, result.denominator)
        scaled = loss if num_in_group == 1 else loss / num_in_group
        scaled.backward()  # type: ignore[no-untyped-call]
        if training.sharpness_radius is not None:
            with optim.sharpest_nearby(model, training.sharpness_radius), compute.autocast():
                again = run_step(batch)
                ranks.weigh(again.loss, again.denominator).backward()  # type: ignore[no-untyped-call]
        means.add(result)
        if (index + 1) % group_size == 0 or index + 1 == num_batches:
            optim.take_step(model, optimizer, max_gradient_norm=training.max_gradient_norm)
            if average is not None:
                average.update(model, step=step + 1)
        if (index + 1) % READ_LOSSES_EVERY == 0 or index + 1 == num_batches or index == 0:
            for number, mean in means.read_losses():
                check_finite(mean, epoch=epoch, step=number + 1, num_batches=num_batches, learning_rate=rates[number])
            progress.show(index + 1, means.values())
    assert len(rates) == num_batches, f"got {len(rates)} batches, expected {num_batches}"
    return {**means.values(), "learning_rate": rates[-1]}


def _add_epoch(state: TrainingState, row: dict[str, float], candidate: nn.Module, best_by: BestBy) -> None:
    """Add an epoch's metrics to `state`, and its weights if they are the best so far."""
    epoch = state.num_epochs + 1
    for name in dict.fromkeys(("val/loss", best_by.metric)):
        if not math.isfinite(row[name]):
            raise TrainingError(f"{name} is {row[name]} after epoch {epoch}: lower optimizer.learning_rate")
    is_best = not state.history or best_by.is_better(row, state.best)
    state.history.append(row)
    if is_best:
        state.best_epoch = epoch
        state.best_state = copy_to_cpu(candidate)


class _Stepper(Generic[B]):
    """A runner of steps, through the compiled model if asked for, or through the plain one if compiling fails."""

    def __init__(self, model: nn.Module, compute_step: Callable[[nn.Module, B], Step], *, compile_model: bool) -> None:
        self._model, self._compute_step = model, compute_step
        self._compiled: nn.Module | None = torch.compile(model) if compile_model else None  # type: ignore[assignment]

    def __call__(self, batch: B) -> Step:
        if self._compiled is not None:
            try:
                return self._compute_step(self._compiled, batch)
            except Exception as error:  # any compiler failure; an error of ours is raised again below
                self._compiled = None
                reason = str(error).strip().partition("\n")[0][:200]
                warnings.warn(f"torch.compile failed, continuing without it: {reason}", stacklevel=2)
        return self._compute_step(self._model, batch)
