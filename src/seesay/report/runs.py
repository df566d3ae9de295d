"""The latest run of each stage in params: time, hardware and commit from its record, and state from a sync."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import Paths, cell_name
from seesay.params.project import Params
from seesay.plotting.table import Timings
from seesay.report.compare import git, resolve_commit

PROVED_STAGES = ("train_classifier", "train_autoencoder", "train_captioner", "extract_features", "finetune_encoder")
"""Stages that depend on a proof of what their code computes, and not on the code's text."""


class LedgerLine(Protocol):
    """One stage instance at a sync. `state` is ran, restored, unchanged, replayed, no record or not run."""

    @property
    def address(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def run_id(self) -> str | None: ...


@dataclass(frozen=True)
class StageRun:
    """A stage instance and its latest run. Without a record only the names are set."""

    stage: str
    cell: str | None
    state: str = ""
    started: str = ""
    seconds: float | None = None
    run_id: str = ""
    commit: str = ""
    is_dirty: bool = False
    hardware: str = ""
    pipeline_key: str = ""
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return cell_name(self.stage, self.cell)


def stage_instances(params: Params) -> list[tuple[str, str | None]]:
    """Return every (stage, cell) of the pipeline, in its order."""
    cells: list[tuple[str, Iterable[str | None]]] = [
        ("placeholder", [None]),
        ("fetch_images", params.image_sources),
        ("prepare_images", params.image_datasets),
        ("train_classifier", params.classifiers),
        ("evaluate_classifier", params.classifiers),
        ("explain_classifier", params.classifiers),
        ("compare_classifiers", [None]),
        ("train_autoencoder", params.autoencoders),
        ("evaluate_autoencoder", params.autoencoders),
        ("explain_autoencoder", params.autoencoders),
        ("fetch_captions", params.caption_sources),
        ("prepare_captions", params.caption_datasets),
        ("build_vocabulary", params.vocabularies),
        ("fetch_weights", params.weights),
        ("extract_features", params.features),
        ("train_captioner", params.captioners),
        ("finetune_encoder", params.finetuned),
        ("caption_images", params.captioners),
        ("score_captions", params.captioners),
        ("explain_captioner", params.captioners),
        ("compare_captioners", [None]),
        ("report", [None]),
        ("gate", [None]),
        ("register", [None]),
    ]
    return [(stage, cell) for stage, names in cells for cell in names]


def read_runs(params: Params, paths: Paths, ledger: Iterable[LedgerLine] | None = None) -> list[StageRun]:
    """Read one entry per stage instance; a missing or unreadable record leaves the entry's other fields empty."""
    lines = {line.address: line for line in ledger or ()}
    return [
        _stage_run(stage, cell, paths.run_record(stage, cell), lines.get(cell_name(stage, cell)))
        for stage, cell in stage_instances(params)
    ]


def collect_timings(runs: Sequence[StageRun]) -> Timings:
    """Collect throughput from the comparison of classifiers, and training costs from classifiers and captioners."""
    throughput: dict[str, dict[int, float]] = {}
    for run in runs:
        if run.stage == "compare_classifiers":
            for key, value in run.measurements.items():
                cell, _, batch_size = key.partition("/images_per_second_batch")
                if batch_size.isdecimal():
                    throughput.setdefault(cell, {})[int(batch_size)] = value

    def training_cost(stage: str, key: str) -> dict[str, float]:
        measurements = {run.cell: run.measurements for run in runs if run.stage == stage and run.cell is not None}
        return {cell: values[key] for cell, values in measurements.items() if key in values}

    return Timings(
        throughput,
        training_cost("train_classifier", "core_seconds"),
        training_cost("train_classifier", "core_seconds_all_seeds"),
        training_cost("train_captioner", "core_seconds"),
    )


def describe_provenance(runs: Iterable[StageRun]) -> str:
    """Return two sentences: days, commits and hardware of the results, and what they took; empty without records."""
    known = [run for run in runs if run.started and run.stage not in ("report", "gate", "register")]
    if not known:
        return ""
    commits = sorted(
        {run.commit[:10] + (" with uncommitted changes" if run.is_dirty else "") for run in known if run.commit}
    )
    hardware = sorted({run.hardware for run in known if run.hardware})
    days = sorted({run.started[:10] for run in known})
    text = f"Run on {days[0]}" if len(days) == 1 else f"Run from {days[0]} to {days[-1]}"
    text += f", code at commit {', '.join(commits)}" if commits else ""
    text += f", on {'; '.join(hardware)}" if hardware else ""
    text += f". All stages together took {sum(map(_cost, known)) / 3600:.1f} core-hours"
    peaks = [run.measurements["peak_memory_gb"] for run in known if "peak_memory_gb" in run.measurements]
    return text + (f", and one of them at most {max(peaks):.1f} GB of memory." if peaks else ".")


def _cost(run: StageRun) -> float:
    """Return a run's core-seconds, those before an interruption included; of a stage that counts none, its seconds."""
    counted = [run.measurements.get(key, 0.0) for key in ("core_seconds", "core_seconds_all_seeds")]
    return max(counted) or run.seconds or 0.0


def check_provenance(root: Path, params: Params) -> str:
    """Check the record of every stage in params, and return a sentence on them.

    Raises `InputError`, with a line for each, for records that are missing, of a run with uncommitted changes, without
    a commit, or of a commit that is not in the history of HEAD.
    """
    runs = read_runs(params, Paths(root))
    repository = _repository(root)
    head = resolve_commit(repository, "HEAD")
    commits = {run.commit for run in runs if run.commit}
    strange = {one for one in commits if git(repository, "merge-base", "--is-ancestor", one, head).returncode != 0}
    problems = [(run.address, problem) for run in runs if (problem := _provenance_problem(run, strange))]
    if problems:
        lines = [f"runs/: {address}: {problem}" for address, problem in problems]
        raise InputError("\n".join(lines))
    return f"all {len(runs)} run records name clean commits in the history of HEAD: {_join_names(sorted(commits))}"


def _repository(root: Path) -> Path:
    """Return the folder whose commits run records name: of a workspace below .work, the repository around it."""
    return next((folder.parent for folder in root.resolve().parents if folder.name == ".work"), root)


def _provenance_problem(run: StageRun, strange: Collection[str]) -> str:
    if not run.started:
        return "no run record; expected one for every result (`dvc pull` or `seesay repro` makes it)"
    if not run.commit:
        return "the run names no commit"
    if run.is_dirty:
        return f"run with uncommitted changes at {run.commit[:10]}; expected a clean commit"
    if run.commit in strange:
        return f"run at {run.commit[:10]}, which is not in the history of HEAD"
    return ""


def kept_trainings_note(runs: Iterable[StageRun]) -> str:
    """Explain trainings whose commit differs from that of the latest run; empty where there are none."""
    known = [run for run in runs if run.started and run.commit]
    if not known:
        return ""
    current = max(reversed(known), key=lambda run: run.started).commit
    earlier = [run for run in known if run.stage in PROVED_STAGES and run.commit != current]
    if not earlier:
        return ""
    commits = _join_names(sorted({run.commit[:10] for run in earlier}))
    return (
        f"Some stages that train models or extract features ran at an earlier commit ({commits}) than the latest run "
        f"({current[:10]}). They are kept as long as their proof holds: a file in proofs/ records what their code "
        "computes, and they run again when that changes, not when only the code's text does."
    )


def _join_names(items: list[str]) -> str:
    return ", ".join(items) if len(items) <= 3 else f"{', '.join(items[:3])} and {len(items) - 3} more"


def _stage_run(stage: str, cell: str | None, path: Path, line: LedgerLine | None) -> StageRun:
    state, run_id = ("", "") if line is None else (line.state, line.run_id or "")
    try:
        record = read_json(path)
    except (InputError, OSError):
        record = None
    if not isinstance(record, Mapping):
        return StageRun(stage, cell, state=state, run_id=run_id)
    environment = {**_mapping(record, "environment"), **_mapping(record, "tags")}
    started, ended = record.get("started_ms"), record.get("ended_ms")
    return StageRun(
        stage,
        cell,
        state=state,
        started=_format_time(started),
        seconds=_seconds(started, ended),
        run_id=run_id or str(record.get("run_id") or ""),
        commit=str(environment.get("git.commit") or ""),
        is_dirty=str(environment.get("git.dirty")).lower() == "true",
        hardware=_hardware(environment),
        pipeline_key=str(record.get("pipeline_key") or ""),
        measurements={k: v for k, v in _mapping(record, "measurements").items() if isinstance(v, int | float)},
    )


def _seconds(started: Any, ended: Any) -> float | None:
    return (ended - started) / 1000 if _is_time(started) and _is_time(ended) else None


def _hardware(environment: Mapping[str, Any]) -> str:
    """Format `AMD EPYC with 2 cores, bfloat16, 1 thread`; empty for a stage without numerical work."""
    name = environment.get("device_name") or environment.get("device")
    if not name:
        return ""
    if name == "cpu" and environment.get("cpu"):
        name = f"{environment['cpu']} with {environment.get('num_cores')} cores"
    threads = environment.get("num_threads")
    parts = [
        str(name),
        str(environment.get("precision") or ""),
        f"{threads} thread{'s' * (str(threads) != '1')}" if threads else "",
    ]
    return ", ".join(part for part in parts if part)


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _format_time(milliseconds: Any) -> str:
    """Format `2026-01-31 12:00` in UTC, the same on every machine."""
    if not _is_time(milliseconds):
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
