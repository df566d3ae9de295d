"""The gate on a workspace's metrics: reads gates.yaml, metrics, params and git; writes the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json, write_text
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_yaml
from seesay.plotting.table import format_change, format_value
from seesay.report.compare import committed_metrics, resolve_commit
from seesay.report.rules import STAGES, Gates, read_gates
from seesay.report.verdict import Baseline, Verdict, json_number, judge

_MARKS = {"passed": "✅ pass", "failed": "❌ **fail**", "new": "🆕 new", "not judged": "❔ not judged"}


def judge_workspace(root: Path, *, gates: Path | None = None, baseline: str | None = None) -> Verdict:
    """Judge the metrics under `root` by the rules in `gates` (default: the workspace's gates.yaml).

    `baseline` is a git ref that replaces the one in the file. Raises `InputError` where the rules cannot be read. An
    unreadable metric is a failed check; with an unreadable baseline, checks against it are not judged.
    """
    paths = Paths(root)
    rules = read_gates(gates or paths.gates)
    metrics, absent = _current_metrics(rules, paths)
    ref = baseline or rules.baseline
    reference = None if ref is None else read_baseline(root, ref, rules.compared)
    return judge(rules, metrics, reference, absent=absent)


def write_verdict(verdict: Verdict, *, json_path: Path, markdown_path: Path) -> None:
    """Write a verdict as JSON and as Markdown."""
    write_json(json_path, verdict.to_json())
    write_text(markdown_path, verdict_markdown(verdict))


def read_verdict(paths: Paths) -> dict[str, Any] | None:
    """Read the JSON from `write_verdict`; None where there is none, or where a metric has changed since."""
    try:
        verdict = read_json(paths.gate)
        checks = verdict["checks"]
        is_current = all(_current_value(paths, check["metric"]) == check["value"] for check in checks)
    except (InputError, KeyError, TypeError):
        return None
    return verdict if is_current else None


def verdict_markdown(verdict: Verdict) -> str:
    """Format the verdict as a Markdown section for a pull request's comment, failures first."""
    order = {"failed": 0, "not judged": 1, "new": 2, "passed": 3}
    lines = [
        f"## Gate {verdict.word}",
        "",
        verdict.summary(),
        "",
        "| | metric | value | requirement |",
        "|---|---|---:|---|",
    ]
    for check in sorted(verdict.checks, key=lambda check: order[check.status]):
        value = check.reason if check.value is None else format_value(check.metric, check.value)
        note = f" ({check.reason})" if check.status in ("new", "not judged") else ""
        if check.status == "failed" and check.value is not None and check.bound is not None:
            note = f"; missed by {format_change(check.metric, abs(check.value - check.bound))}"
        lines.append(f"| {_MARKS[check.status]} | `{check.metric}` | {value} | {check.requirement}{note} |")
    if verdict.baseline is not None and verdict.baseline.commit:
        lines += ["", f"Baseline: `{verdict.baseline.ref}` at {verdict.baseline.commit[:12]}."]
    return "\n".join(lines) + "\n"


def read_baseline(root: Path, ref: str, names: list[str]) -> Baseline:
    """Read the metrics `names` as committed at `ref`, in the folder of the repository that `root` is."""
    try:
        commit = resolve_commit(root, ref)
    except InputError as error:
        return Baseline(ref, None, problem=str(error))
    files = committed_metrics(root, commit)
    values: dict[str, float] = {}
    for name in names:
        source, _, key = name.partition(":")
        value = files.get(source, {}).get(key)
        if _is_number(value):
            values[name] = float(value)
    return Baseline(ref, values, commit=commit)


def _current_metrics(rules: Gates, paths: Paths) -> tuple[dict[str, float], dict[str, str]]:
    """Return the current value of each metric and, for each metric without one, the reason."""
    params = read_yaml(paths.params)
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name in rules.metrics:
        path, key = _file_and_key(name)
        stage, _, cell = name.partition(":")[0].partition("/")
        section = STAGES[stage].section if stage in STAGES else None
        # DVC keeps the files of a removed experiment. A rule on them must not pass for a model that no longer exists.
        if section is not None and cell not in params.get(section, {}):
            absent[name] = f"{PARAMS_FILE} has no {section}.{cell}"
            continue
        try:
            content = read_json(paths.root / path)
        except InputError as error:
            absent[name] = str(error).replace(str(paths.root / path), path)
            continue
        if not isinstance(content, Mapping) or key not in content:
            absent[name] = f"{path} has no {key!r}"
        elif not _is_number(content[key]):
            absent[name] = f"{path}: {key}: got {content[key]!r}: expected a number"
        else:
            values[name] = float(content[key])
    return values, absent


def _current_value(paths: Paths, name: str) -> float | str | None:
    """Return a metric as gate.json stores it: null where it cannot be read, text where it is not finite."""
    path, key = _file_and_key(name)
    try:
        content = read_json(paths.root / path)
    except InputError:
        return None
    value: Any = content.get(key) if isinstance(content, Mapping) else None
    return json_number(float(value)) if _is_number(value) else None


def _file_and_key(name: str) -> tuple[str, str]:
    """Split `stage/cell:key` into the metrics file, relative to the workspace with forward slashes, and the key."""
    source, _, key = name.partition(":")
    stage, _, cell = source.partition("/")
    return Paths(Path()).metrics(stage, cell or None).as_posix(), key


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
