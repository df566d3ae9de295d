"""Comparison of the metrics of two git refs, or of a ref and the workspace: what moved beyond noise."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.plotting.table import format_change, format_value

Z95 = 1.959964
"""Half the width of a 95 % interval in standard errors."""

NOISE = (
    "Noise: the standard error of a difference is the root of the sum of both squared standard errors, each from the "
    "metric's 95 % bootstrap interval over the test images or, for a mean over seeds, from their standard deviation. A "
    "metric moved beyond noise if it changed by more than 1.96 of these. Both sides count as independent samples; on "
    "the same images a paired test would find smaller differences. The spread between seeds is in the means over seeds "
    "only."
)

MAIN_METRICS = {
    "evaluate_classifier": "test/top1",
    "evaluate_autoencoder": "test/psnr",
    "score_captions": "test/cider_d",
}
"""The metric that ranks the experiments, by stage."""

_LOWER_IS_BETTER = (
    "loss",
    "loss_calibrated",
    "ece",
    "ece_calibrated",
    "mse",
    "hidden_mse",
    "visible_mse",
    "perplexity",
    "out_of_vocabulary",
    "unended",
)
_OF_MODELS = ("test/", "val/", "seeds/")

Metrics = Mapping[str, Mapping[str, Any]]
"""The content of each metrics file by its name without the suffix: `evaluate_classifier/resnet9`."""


@dataclass(frozen=True)
class Change:
    """A metric, `<stage>/<experiment>:<key>`, that differs.

    `noise` is half the 95 % interval of the difference; None where the metrics hold no standard error.
    """

    metric: str
    before: float
    after: float
    noise: float | None

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def is_beyond_noise(self) -> bool:
        return self.noise is not None and abs(self.difference) > self.noise

    @property
    def is_main(self) -> bool:
        """Whether the metric ranks the experiments of its task."""
        stage, _, rest = self.metric.partition("/")
        return rest.partition(":")[2] == MAIN_METRICS.get(stage)

    @property
    def verdict(self) -> str:
        """Return `better`, `worse`, or `changed` for a metric of a baseline, which should not move at all."""
        key = self.metric.partition(":")[2]
        if not key.startswith(_OF_MODELS):
            return "changed"
        sign = -1 if key.rpartition("/")[2] in _LOWER_IS_BETTER else 1
        return "better" if sign * self.difference > 0 else "worse"

    @property
    def arrow(self) -> str:
        return "▲" if self.difference > 0 else "▼"

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """The value before, the value after, the change with its sign, and the noise."""
        sign = "+" if self.difference > 0 else "−"
        return (
            format_value(self.metric, self.before),
            format_value(self.metric, self.after),
            sign + format_change(self.metric, abs(self.difference)),
            "unknown" if self.noise is None else f"±{format_change(self.metric, self.noise)}",
        )


@dataclass(frozen=True)
class Comparison:
    """The metrics of two sides compared. `only_before` and `only_after` are metrics files that one side lacks."""

    before: str
    after: str
    changes: tuple[Change, ...]
    num_equal: int
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def moved(self) -> list[Change]:
        """The changes beyond noise: metrics that rank experiments first, then the largest in units of its noise."""
        moved = [change for change in self.changes if change.is_beyond_noise]
        return sorted(moved, key=lambda one: (not one.is_main, -abs(one.difference) / (one.noise or 1.0)))

    @property
    def main_changes(self) -> list[Change]:
        """The changes of metrics that rank experiments, those beyond noise first."""
        return sorted((one for one in self.changes if one.is_main), key=lambda one: not one.is_beyond_noise)

    @property
    def within_noise(self) -> list[Change]:
        return [change for change in self.changes if change.noise is not None and not change.is_beyond_noise]

    @property
    def of_unknown_noise(self) -> list[Change]:
        return [change for change in self.changes if change.noise is None]

    def summary(self) -> str:
        """Return one sentence: how many metrics moved beyond noise, and what became of the others."""
        moved = self.moved
        counts = {word: sum(one.verdict == word for one in moved) for word in ("better", "worse", "changed")}
        kinds = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        text = f"{_metrics(len(moved))} moved beyond noise" + (f" ({kinds})" if kinds else "")
        text += f"; {len(self.within_noise)} changed within noise, {len(self.of_unknown_noise)} changed by an amount "
        return text + f"whose noise is unknown, {self.num_equal} are equal."


def compare_refs(root: Path, before: str, after: str | None = None) -> Comparison:
    """Compare the metrics committed at two refs, in the folder of the repository that `root` is.

    Without `after`, the second side is the workspace. Raises `InputError` for a ref that git does not know.
    """
    sides = [(f"{before} ({commit[:10]})", metrics) for commit, metrics in [_at_ref(root, before)]]
    if after is None:
        sides.append(("workspace", workspace_metrics(root)))
    else:
        commit, metrics = _at_ref(root, after)
        sides.append((f"{after} ({commit[:10]})", metrics))
    (first, old), (second, new) = sides
    return compare_metrics(old, new, before=first, after=second)


def compare_metrics(old: Metrics, new: Metrics, *, before: str, after: str) -> Comparison:
    """Compare every number that both sides have; `before` and `after` name the sides."""
    changes, num_equal = [], 0
    for name in sorted(old.keys() & new.keys()):
        for key, value in new[name].items():
            earlier = old[name].get(key)
            if not (_is_finite(value) and _is_finite(earlier)) or _is_bound(key, new[name]):
                continue
            if math.isclose(value, earlier, rel_tol=1e-12, abs_tol=1e-12):
                num_equal += 1
                continue
            errors = [standard_error(key, metrics[name]) for metrics in (old, new)]
            known = [error for error in errors if error is not None]
            noise = Z95 * math.hypot(*known) if len(known) == 2 else None
            changes.append(Change(f"{name}:{key}", float(earlier), float(value), noise))
    return Comparison(
        before,
        after,
        tuple(changes),
        num_equal,
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(new.keys() - old.keys())),
    )


def standard_error(key: str, metrics: Mapping[str, Any]) -> float | None:
    """Return the standard error of `metrics[key]`; None where the metrics do not hold it.

    It comes from the bounds `<key>_low` and `<key>_high` of the 95 % interval, or for `<name>_mean` over `seeds/num`
    seeds from `<name>_std`.
    """
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    if _is_finite(low) and _is_finite(high):
        return float(high - low) / (2 * Z95)
    name, _, ending = key.rpartition("_")
    deviation, count = metrics.get(f"{name}_std"), metrics.get("seeds/num")
    if ending == "mean" and _is_finite(deviation) and _is_finite(count) and count > 1:
        return float(deviation) / math.sqrt(count)
    return None


def comparison_markdown(comparison: Comparison) -> str:
    """Format a comparison as a Markdown section for a pull request's comment."""
    lines = [f"## {comparison.before} → {comparison.after}", "", comparison.summary()]
    if moved := comparison.moved:
        lines += ["", "| | metric | before | after | change | noise |", "|---|---|---:|---:|---:|---:|"]
        for one in moved:
            lines.append(f"| {one.arrow} {one.verdict} | `{one.metric}` | {' | '.join(one.texts)} |")
    for title, names in (("Only before", comparison.only_before), ("Only after", comparison.only_after)):
        if names:
            lines += ["", f"{title}: {', '.join(f'`{name}`' for name in names)}."]
    return "\n".join([*lines, "", NOISE]) + "\n"


def workspace_metrics(root: Path) -> dict[str, Mapping[str, Any]]:
    """Read all files in metrics/ of a workspace; what is not an object of JSON is left out."""
    folder = Paths(root).metrics("any").parent
    texts = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(folder.rglob("*.json"))
    }
    return _parsed(texts.items())


def resolve_commit(root: Path, ref: str) -> str:
    """Return the commit of a git ref; raises `InputError` where there is none, or no git."""
    try:
        resolved = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except FileNotFoundError:
        raise InputError("git is not installed") from None
    if resolved.returncode != 0:
        inside = git(root, "rev-parse", "--git-dir").returncode == 0
        raise InputError(f"git has no ref {ref!r} here" if inside else "not inside a git repository")
    return resolved.stdout.strip()


def committed_metrics(root: Path, commit: str) -> dict[str, Mapping[str, Any]]:
    """Read all files in metrics/ as committed, in the folder of the repository that `root` is."""
    listed = git(root, "ls-tree", "-r", "-z", commit, "metrics/").stdout.split("\0")
    blobs = {name: entry.split()[2] for entry, _, name in (line.partition("\t") for line in listed) if name}
    blobs = {name: blob for name, blob in blobs.items() if name.endswith(".json")}
    return _parsed(zip(blobs, _blob_texts(root, list(blobs.values())), strict=True))


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def _at_ref(root: Path, ref: str) -> tuple[str, dict[str, Mapping[str, Any]]]:
    commit = resolve_commit(root, ref)
    return commit, committed_metrics(root, commit)


def _blob_texts(root: Path, blobs: list[str]) -> list[str]:
    """Return the texts of git objects, read by one process."""
    command = ["git", "-C", str(root), "cat-file", "--batch"]
    output = subprocess.run(command, input="\n".join(blobs).encode(), capture_output=True, check=True).stdout
    texts, start = [], 0
    for _ in blobs:
        end = output.index(b"\n", start)
        size = int(output[start:end].split()[-1])
        texts.append(output[end + 1 : end + 1 + size].decode("utf-8", errors="replace"))
        start = end + size + 2  # a line break follows the content
    return texts


def _parsed(texts: Iterable[tuple[str, str]]) -> dict[str, Mapping[str, Any]]:
    """Return the objects in texts of JSON by the name of their metrics file."""
    files: dict[str, Mapping[str, Any]] = {}
    for path, text in texts:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, Mapping):
            files[path.removeprefix("metrics/").removesuffix(".json")] = content
    return files


def _is_bound(key: str, metrics: Mapping[str, Any]) -> bool:
    """Whether a metric is a bound of another's interval, which moves with it."""
    return key.endswith(("_low", "_high")) and key.rpartition("_")[0] in metrics


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _metrics(count: int) -> str:
    return f"{count} metric{'s' * (count != 1)}"
