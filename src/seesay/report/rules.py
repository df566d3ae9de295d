"""The rules in gates.yaml: absolute bounds on metrics, and bounds relative to a baseline or to another metric."""

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
    """A distance to another metric: `by` in its own units, or `by_share` as a share of its value."""

    metric: MetricName
    by: NotNegative | None = None
    by_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _exactly_one_distance(self) -> Margin:
        if (self.by is None) == (self.by_share is None):
            raise ValueError(f"expected either by or by_share, got {'neither' if self.by is None else 'both'}")
        return self


class Rule(Settings):
    """The bounds of one metric, all of which must hold.

    `min` and `max` are absolute and inclusive. `max_drop` is the largest allowed drop below the baseline, for metrics
    where higher is better; `max_rise` the largest allowed rise above it, where lower is better. `above` requires more
    than another metric plus a margin; `below` less than another metric minus a margin.
    """

    metric: MetricName
    min: Finite | None = None
    max: Finite | None = None
    max_drop: NotNegative | None = None
    max_rise: NotNegative | None = None
    above: Margin | None = None
    below: Margin | None = None

    @model_validator(mode="after")
    def _has_consistent_bounds(self) -> Rule:
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
    """The content of gates.yaml.

    `baseline` is the git ref whose committed metrics `max_drop` and `max_rise` are relative to, or null.
    """

    baseline: Annotated[str, Field(min_length=1, pattern=r"^[^-]")] | None
    rules: Annotated[tuple[Rule, ...], AsTuple]

    @property
    def metrics(self) -> list[str]:
        """All metrics in the rules, each once, in their order."""
        names = []
        for rule in self.rules:
            names += [rule.metric, *(margin.metric for margin in (rule.above, rule.below) if margin is not None)]
        return list(dict.fromkeys(names))

    @property
    def compared(self) -> list[str]:
        """The metrics that are compared with the baseline."""
        rules = [rule for rule in self.rules if rule.max_drop is not None or rule.max_rise is not None]
        return list(dict.fromkeys(rule.metric for rule in rules))


def read_gates(path: Path) -> Gates:
    """Read rules from a YAML file; raises `InputError` naming each wrong key, its value and the allowed ones."""
    gates: Gates = validate(read_yaml(path), Gates, where=str(path))
    return gates
