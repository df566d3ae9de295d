"""Do this workspace's metrics pass its gates? Reads metrics, params and git; writes the verdict."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json, write_text
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_yaml
from seesay.plotting.numbers import show_value
from seesay.report.rules import Gates, read_gates
from seesay.report.verdict import Baseline, Verdict, json_number, judge

# Which section of params.yaml holds a stage's cells. DVC leaves the files of a removed cell behind; judged by them, a
# rule would go on passing for a model that is no longer there.
SECTIONS = {
    "prepare_images": "image_datasets",
    "train_classifier": "classifiers",
    "evaluate_classifier": "classifiers",
    "train_autoencoder": "autoencoders",
    "evaluate_autoencoder": "autoencoders",
    "explain_autoencoder": "autoencoders",
    "prepare_captions": "caption_datasets",
    "build_vocabulary": "vocabularies",
    "extract_features": "features",
    "train_captioner": "captioners",
    "finetune_encoder": "finetuned",
    "caption_images": "captioners",
    "score_captions": "captioners",
}

_MARKS = {"passed": "✅ pass", "failed": "❌ **fail**", "new": "🆕 new", "not judged": "❔ not judged"}


def judge_workspace(root: Path, *, gates: Path | None = None, baseline: str | None = None) -> Verdict:
    """The verdict of `gates` (default: the workspace's gates.yaml) on the metrics under `root`.

    `baseline` is a git ref that takes the place of the file's. Raises `InputError` where the rules cannot be read; a
    metric that cannot be read is a failed check, a baseline that cannot be read one that is not judged.
    """
    paths = Paths(root)
    rules = read_gates(gates or paths.gates)
    metrics, absent = _current(rules, paths)
    ref = baseline or rules.baseline
    known = None if ref is None else read_baseline(root, ref, rules.compared)
    return judge(rules, metrics, known, absent=absent)


def write_verdict(verdict: Verdict, *, json_path: Path, markdown_path: Path) -> None:
    """Writes a verdict for programs and for people."""
    write_json(json_path, verdict.to_json())
    write_text(markdown_path, verdict_markdown(verdict))


def read_verdict(paths: Paths) -> dict[str, Any] | None:
    """What `write_verdict` wrote, as JSON; None where there is none, or where a metric has changed since."""
    try:
        verdict = read_json(paths.gate)
        checks = verdict["checks"]
        current = all(_written(paths, check["metric"]) == check["value"] for check in checks)
    except (InputError, KeyError, TypeError):
        return None
    return verdict if current else None


def verdict_markdown(verdict: Verdict) -> str:
    """The verdict as a Markdown section fit for a pull request's comment: what is wrong first."""
    order = {"failed": 0, "not judged": 1, "new": 2, "passed": 3}
    lines = [
        f"## Gate {verdict.word}",
        "",
        verdict.summary(),
        "",
        "| | metric | is | must be |",
        "|---|---|---:|---|",
    ]
    for check in sorted(verdict.checks, key=lambda check: order[check.status]):
        value = check.reason if check.value is None else show_value(check.metric, check.value)
        note = f" ({check.reason})" if check.status in ("new", "not judged") else ""
        lines.append(f"| {_MARKS[check.status]} | `{check.metric}` | {value} | {check.requirement}{note} |")
    if verdict.baseline is not None and verdict.baseline.commit:
        lines += ["", f"Baseline: `{verdict.baseline.ref}` at {verdict.baseline.commit[:12]}."]
    return "\n".join(lines) + "\n"


def read_baseline(root: Path, ref: str, names: list[str]) -> Baseline:
    """The metrics named, as committed at `ref` in the same folder of the repository `root` lies in."""
    try:
        found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except FileNotFoundError:
        return Baseline(ref, None, problem="git is not installed")
    if found.returncode != 0:
        inside = _git(root, "rev-parse", "--git-dir").returncode == 0
        return Baseline(ref, None, problem=f"git knows no {ref!r} here" if inside else "not inside a git repository")
    commit = found.stdout.strip()
    files: dict[str, Any] = {}
    values: dict[str, float] = {}
    for name in names:
        path, key = _file_and_key(name)
        if path not in files:
            shown = _git(root, "show", f"{commit}:./{path}")
            files[path] = _parsed(shown.stdout) if shown.returncode == 0 else {}
        value = files[path].get(key)
        if _is_number(value):
            values[name] = float(value)
    return Baseline(ref, values, commit=commit)


def _current(rules: Gates, paths: Paths) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers there are, and for each metric without one why."""
    params = read_yaml(paths.params)
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name in rules.metrics:
        path, key = _file_and_key(name)
        stage, _, cell = name.partition(":")[0].partition("/")
        section = SECTIONS.get(stage)
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


def _written(paths: Paths, name: str) -> float | str | None:
    """A metric as gate.json has it: null where it cannot be read, text where it is not finite."""
    path, key = _file_and_key(name)
    try:
        content = read_json(paths.root / path)
    except InputError:
        return None
    value: Any = content.get(key) if isinstance(content, Mapping) else None
    return json_number(float(value)) if _is_number(value) else None


def _file_and_key(name: str) -> tuple[str, str]:
    """The metrics file of `stage/cell:key`, relative to the workspace with forward slashes, and the key in it."""
    place, _, key = name.partition(":")
    stage, _, cell = place.partition("/")
    return Paths(Path()).metrics(stage, cell or None).as_posix(), key


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parsed(text: str) -> Any:
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
