"""What the learning rate is at each step."""

from __future__ import annotations

import math

from seesay.params.training import Schedule

ONE_CYCLE_FIRST, ONE_CYCLE_LAST = 25.0, 1e4
"""The one-cycle rate starts at peak / 25 and ends at a ten-thousandth of that."""


def learning_rate_at(step: int, *, num_steps: int, peak: float, schedule: Schedule) -> float:
    """The learning rate of `step` (from 0) out of `num_steps`.

    With w = `warmup_fraction` of all steps, rounded: step s < w gets peak * (s + 1) / (w + 1), step w the peak, and
    from there `decay` leads towards zero, which step `num_steps` (one after the last) would reach. `one_cycle` is
    torch's `OneCycleLR` with its default factors, which has its peak at warmup_fraction * num_steps - 1.
    """
    assert 0 <= step < num_steps, f"step {step} of {num_steps}"
    if schedule.decay == "one_cycle":
        return _one_cycle(step, num_steps, peak, peak_step=schedule.warmup_fraction * num_steps - 1)
    warmup_steps = round(schedule.warmup_fraction * num_steps)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / (num_steps - warmup_steps)
    match schedule.decay:
        case "constant":
            return peak
        case "linear":
            return peak * (1.0 - done)
        case "cosine":
            return _along_cosine(peak, 0.0, done)
        case "step":
            assert schedule.factor is not None, "a step schedule has a factor"
            num_passed = sum(step >= round(milestone * num_steps) for milestone in schedule.milestones)
            return peak * schedule.factor**num_passed


def _one_cycle(step: int, num_steps: int, peak: float, *, peak_step: float) -> float:
    first = peak / ONE_CYCLE_FIRST
    if step <= peak_step:
        return _along_cosine(first, peak, step / peak_step) if peak_step else peak
    return _along_cosine(peak, first / ONE_CYCLE_LAST, (step - peak_step) / (num_steps - 1 - peak_step))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
