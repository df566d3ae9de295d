"""What the learning rate is at each step."""

from __future__ import annotations

import math

from seesay.params.training import Schedule


def learning_rate_at(step: int, *, num_steps: int, peak: float, schedule: Schedule) -> float:
    """The learning rate of `step` (from 0) out of `num_steps`.

    With w = `warmup_fraction` of all steps, rounded: step s < w gets peak * (s + 1) / (w + 1), step w the peak, and
    from there `decay` leads towards zero, which step `num_steps` (one after the last) would reach.
    """
    assert 0 <= step < num_steps, f"step {step} of {num_steps}"
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
            return peak * 0.5 * (1.0 + math.cos(math.pi * done))
