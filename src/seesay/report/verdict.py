"""Judgement of metrics by rules, without reading or writing files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from seesay.plotting.table import format_change, format_value
from seesay.report.rules import Gates, Margin, Rule

Status = Literal["passed", "failed", "new", "not judged"]


@dataclass(frozen=True)
class Baseline:
    """The metrics at a git ref, which current ones are compared with.

    `values` is None where the ref could not be read, with the reason in `problem`.
    """

    ref: str
    values: Mapping[str, float] | None
    commit: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Check:
    """The result for one bound of one rule. `bound` is the number that the value was compared with, if any."""

    metric: str
    requirement: str
    value: float | None
    bound: float | None
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    checks: tuple[Check, ...]
    baseline: Baseline | None = field(default=None)

    @property
    def num_failed(self) -> int:
        return sum(check.status == "failed" for check in self.checks)

    @property
    def num_not_judged(self) -> int:
        return sum(check.status == "not judged" for check in self.checks)

    @property
    def passed(self) -> bool:
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: all passed; 1: some failed; 2: none failed, but some could not be judged without a baseline."""
        if self.num_failed:
            return 1
        return 2 if self.num_not_judged else 0

    @property
    def word(self) -> str:
        return {0: "passed", 1: "failed", 2: "could not be judged"}[self.exit_code]

    def summary(self) -> str:
        """Return one paragraph: the outcome, then the checks that failed or could not be judged."""
        passed = sum(check.status in ("passed", "new") for check in self.checks)
        text = f"The gate {self.word}: {passed} of {len(self.checks)} checks hold"
        if num_new := sum(check.status == "new" for check in self.checks):
            text += f" ({num_new} new: not in the baseline)"
        if self.baseline is not None:
            text += f"; baseline {self.baseline.ref}"
        problems = [check for check in self.checks if check.status in ("failed", "not judged")]
        lines = [f"{check.metric}: {check.reason}" for check in problems]
        return f"{text}." + "".join(f" {line}." for line in dict.fromkeys(lines))

    def to_json(self) -> dict[str, Any]:
        """Return the content of gate.json, without times or commits, so that equal results give equal bytes."""
        return {
            "passed": self.passed,
            "exit_code": self.exit_code,
            "num_checks": len(self.checks),
            "num_failed": self.num_failed,
            "num_not_judged": self.num_not_judged,
            "baseline": None if self.baseline is None else self.baseline.ref,
            "checks": [
                {
                    "metric": check.metric,
                    "requirement": check.requirement,
                    "value": json_number(check.value),
                    "bound": json_number(check.bound),
                    "status": check.status,
                    "reason": check.reason,
                }
                for check in self.checks
            ],
        }


def judge(
    gates: Gates, metrics: Mapping[str, float], baseline: Baseline | None, *, absent: Mapping[str, str]
) -> Verdict:
    """Judge `metrics`, a number per metric name, by the rules in `gates`.

    A metric without a finite number fails; `absent` holds the reasons for missing ones. A bound is "new", and holds,
    where the baseline lacks the metric, and "not judged" where the baseline itself could not be read.
    """
    checks = [check for rule in gates.rules for check in _checks(rule, metrics, baseline, absent)]
    return Verdict(tuple(checks), baseline)


class _Bound(NamedTuple):
    """A limit for a value; without a limit, the resulting status and the reason."""

    requirement: str
    limit: float | None
    sign: Literal[1, -1] = 1  # 1: the value must be higher than the limit, -1: lower
    is_strict: bool = False  # equal is not enough
    status: Status = "passed"
    reason: str = ""


def _checks(
    rule: Rule, metrics: Mapping[str, float], baseline: Baseline | None, absent: Mapping[str, str]
) -> Iterator[Check]:
    name, value = rule.metric, metrics.get(rule.metric)
    problem = _problem(name, metrics, absent)
    # A rule with only baseline bounds still requires a number where there is no baseline.
    for bound in list(_bounds(rule, metrics, baseline, absent)) or [_Bound("a finite number", None)]:
        if problem or value is None:
            yield Check(name, bound.requirement, value, bound.limit, "failed", problem)
        elif bound.limit is None:
            yield Check(name, bound.requirement, value, None, bound.status, bound.reason)
        else:
            # Tolerates rounding: 0.70 - 0.02 must not be "more than" 0.68. Meaningful differences are far above 1e-12.
            distance = bound.sign * (value - bound.limit)
            holds = distance > 1e-12 if bound.is_strict else distance >= -1e-12
            reason = "" if holds else f"{format_value(name, value)} is not {bound.requirement}"
            yield Check(name, bound.requirement, value, bound.limit, "passed" if holds else "failed", reason)


def _bounds(
    rule: Rule, metrics: Mapping[str, float], baseline: Baseline | None, absent: Mapping[str, str]
) -> Iterator[_Bound]:
    name = rule.metric
    if rule.min is not None:
        yield _Bound(f"at least {format_value(name, rule.min)}", rule.min)
    if rule.max is not None:
        yield _Bound(f"at most {format_value(name, rule.max)}", rule.max, sign=-1)
    if baseline is not None and rule.max_drop is not None:
        yield _baseline_bound(name, rule.max_drop, baseline, sign=1)
    if baseline is not None and rule.max_rise is not None:
        yield _baseline_bound(name, rule.max_rise, baseline, sign=-1)
    if rule.above is not None:
        yield _relation(name, rule.above, metrics, absent, sign=1)
    if rule.below is not None:
        yield _relation(name, rule.below, metrics, absent, sign=-1)


def _baseline_bound(name: str, tolerance: float, baseline: Baseline, *, sign: Literal[1, -1]) -> _Bound:
    requirement = f"at most {format_change(name, tolerance)} {'lower' if sign == 1 else 'higher'} than the baseline"
    if baseline.values is None:
        return _Bound(requirement, None, status="not judged", reason=baseline.problem)
    reference = baseline.values.get(name)
    if reference is None or not math.isfinite(reference):
        return _Bound(requirement, None, status="new", reason="not in the baseline")
    return _Bound(f"{requirement} ({format_value(name, reference)})", reference - sign * tolerance, sign)


def _relation(
    name: str, margin: Margin, metrics: Mapping[str, float], absent: Mapping[str, str], *, sign: Literal[1, -1]
) -> _Bound:
    word = "above" if sign == 1 else "below"
    if margin.by_share:
        requirement = f"{100 * margin.by_share:g} % or more {word} {margin.metric}"
    elif margin.by:
        requirement = f"{format_change(name, margin.by)} or more {word} {margin.metric}"
    else:
        requirement = f"{word} {margin.metric}"
    if problem := _problem(margin.metric, metrics, absent):
        return _Bound(requirement, None, status="failed", reason=f"{margin.metric}: {problem}")
    other = metrics[margin.metric]
    distance = margin.by if margin.by is not None else abs(other) * (margin.by_share or 0.0)
    requirement += f" ({format_value(margin.metric, other)})"
    return _Bound(requirement, other + sign * distance, sign, is_strict=distance == 0)


def _problem(name: str, metrics: Mapping[str, float], absent: Mapping[str, str]) -> str:
    value = metrics.get(name)
    if value is None:
        return absent.get(name, "missing")
    return "" if math.isfinite(value) else f"got {value}: expected a finite number"


def json_number(value: float | None) -> float | str | None:
    """Return the number, or its text where it is not finite, as JSON has no NaN."""
    return value if value is None or math.isfinite(value) else str(value)
