"""The result of a training step, and its means over an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seesay.ranks import Ranks


@dataclass(frozen=True)
class Step:
    """One batch's result: the mean loss to minimise over `num_examples`, and sums to average (`top1`: num correct).

    `weight` is what the loss is a mean over where that is not the examples, such as their weights.
    """

    loss: Tensor
    num_examples: int
    sums: Mapping[str, Tensor]
    weight: Tensor | None = None

    @property
    def denominator(self) -> Tensor | int:
        return self.num_examples if self.weight is None else self.weight


class Means:
    """Running means over an epoch and all ranks, whose values stay on the device until they are read."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._pending: list[Step] = []
        self._totals: dict[str, float] = {}
        self._num_examples = 0
        self._num_steps = 0

    def add(self, step: Step) -> None:
        self._pending.append(replace(step, loss=step.loss.detach()))

    def read_losses(self) -> list[tuple[int, float]]:
        """Return (index of the step, loss) of each step since the last read, and update the means."""
        if not self._pending:
            return []
        if self._ranks.count > 1:
            self._pending = _joined(self._pending, self._ranks)
        counts = [step.num_examples for step in self._pending]
        losses = torch.stack([step.loss.float() for step in self._pending]).tolist()
        self._count("loss", [loss * count for loss, count in zip(losses, counts, strict=True)])
        for name in self._pending[0].sums:
            self._count(name, torch.stack([step.sums[name].detach().float() for step in self._pending]).tolist())
        numbered = list(enumerate(losses, start=self._num_steps))
        self._num_examples += sum(counts)
        self._num_steps += len(losses)
        self._pending = []
        return numbered

    def values(self) -> dict[str, float]:
        return {f"train/{name}": total / self._num_examples for name, total in self._totals.items()}

    def _count(self, name: str, values: list[float]) -> None:
        self._totals[name] = self._totals.get(name, 0.0) + math.fsum(values)


def _joined(steps: Sequence[Step], ranks: Ranks) -> list[Step]:
    """Return the steps of whole batches for those of this rank's parts."""
    names = list(steps[0].sums)
    rows = []
    for step in steps:
        row = [step.loss * step.denominator, step.denominator, step.num_examples, *(step.sums[name] for name in names)]
        rows.append(torch.stack([torch.as_tensor(one, device=step.loss.device).detach().double() for one in row]))
    return [
        Step(row[0] / row[1], int(row[2]), dict(zip(names, row[3:], strict=True)))
        for row in ranks.total(torch.stack(rows)).cpu()
    ]
