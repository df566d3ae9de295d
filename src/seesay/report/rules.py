"""What gates.yaml may say: bounds on single metrics, against a baseline and against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from seesay.core.settings import AsTuple, Settings, read_yaml, validate

Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

MetricName = Annotated[str, Field(pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)?:[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*$")]
"""`<stage>/<cell>:<key>`, or `<stage>:<key>` for a stage without cells: `evaluate_classifier/resnet9:test/top1`."""


class Margin(Settings):
    """Another metric and how far from it: `by` in its own units, or `by_share` as a share of its value."""

    metric: MetricName
    by: NotNegative | None = None
    by_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _one_distance(self) -> Margin:
        if (self.by is None) == (self.by_share is None):
            raise ValueError(f"expected either by or by_share, got {'neither' if self.by is None else 'both'}")
        return self


class Rule(Settings):
    """What one metric must satisfy; every bound given counts.

    `min`, `max`: absolute, the bound itself is allowed. `max_drop`: how much lower than the baseline it may be, for
    metrics where higher is better; `max_rise`: how much higher, where lower is better. `above`: it must be more than
    another metric plus a margin; `below`: less than another metric minus a margin.
    """

    metric: MetricName
    min: Finite | None = None
    max: Finite | None = None
    max_drop: NotNegative | None = None
    max_rise: NotNegative | None = None
    above: Margin | None = None
    below: Margin | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Rule:
        if self.bounds == 0:
            allowed = ", ".join(name for name in type(self).model_fields if name != "metric")
            raise ValueError(f"rule for {self.metric!r} has no bound; allowed: {allowed}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"rule for {self.metric!r}: min {self.min} is more than max {self.max}")
        return self

    @property
    def bounds(self) -> int:
        return sum(getattr(self, name) is not None for name in type(self).model_fields if name != "metric")


class Gates(Settings):
    """`baseline` is the git ref whose committed metrics `max_drop` and `max_rise` are measured from, or null."""

    baseline: Annotated[str, Field(min_length=1, pattern=r"^[^-]")] | None
    rules: Annotated[tuple[Rule, ...], AsTuple]

    @property
    def metrics(self) -> list[str]:
        """Every metric some rule names, each once, in the order they come."""
        named = []
        for rule in self.rules:
            named += [rule.metric, *(margin.metric for margin in (rule.above, rule.below) if margin is not None)]
        return list(dict.fromkeys(named))

    @property
    def compared(self) -> list[str]:
        """The metrics that are compared with the baseline's."""
        rules = [rule for rule in self.rules if rule.max_drop is not None or rule.max_rise is not None]
        return list(dict.fromkeys(rule.metric for rule in rules))


def read_gates(path: Path) -> Gates:
    """The rules in a YAML file; raises `InputError` that names each wrong key, its value and what is allowed."""
    gates: Gates = validate(read_yaml(path), Gates, where=str(path))
    return gates
