"""The parameters and metrics of all experiments, as one pandas DataFrame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.params.project import load_params
from seesay.report.results import comparison_rows
from seesay.report.rules import STAGES
from seesay.report.runs import StageRun, read_runs

TRAINING = {
    "classifiers": "train_classifier",
    "autoencoders": "train_autoencoder",
    "captioners": "train_captioner",
    "finetuned": "finetune_encoder",
}
"""The sections of params.yaml with experiments, and the stage that trains each."""

_COMPARISONS = {"classifiers": "compare_classifiers", "captioners": "compare_captioners"}
_SIZES = ("num_parameters", "flops", "training_flops")
_KINDS = ("params", "training", "metrics", "cost")


def results(root: str | os.PathLike[str] = ".") -> pd.DataFrame:
    """Return a row for each experiment in params.yaml, indexed by `section` and `name`, in its order.

    `root` is a repository's root or a workspace such as `.work/demo`. The columns are

    - `params.<key>`: the parameters under their dotted keys, with defaults; lists are tuples;
    - `training.<key>`: the metrics of training, of the best epoch;
    - `metrics.<key>`: those of the stages after training, such as `metrics.test/top1` and `metrics.test/cider_d`, in
      the units of their files;
    - `cost.<key>`: `num_parameters`; `flops` of one image; `training_flops`; `core_seconds`, the processor time of
      training, `core_seconds_all_seeds`, `seconds` and `hardware`, from the run's record, where it is there.

    What an experiment does not have, or has not measured yet, is missing (NaN). Raises `InputError` where there is no
    params.yaml, or it or another file is invalid.
    """
    folder = Path(root)
    paths = Paths(folder)
    if not paths.params.is_file():
        expected = "expected the root of a repository or workspace of seesay"
        raise InputError(f"{folder.resolve()}: no {paths.params.name} here: {expected}")
    params = load_params(folder)
    runs = {(run.stage, run.cell): run for run in read_runs(params, paths)}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for section, training in TRAINING.items():
        later = [stage for stage, measured in STAGES.items() if measured.section == section and stage != training]
        sizes = _sizes(section, paths)
        for name, settings in getattr(params, section).items():
            rows[section, name] = {
                **_columns("params", _flat(settings.model_dump(exclude_none=True))),
                **_columns("training", _metrics([training], name, paths)),
                **_columns("metrics", _metrics(later, name, paths)),
                **_columns("cost", sizes.get(name, {}) | _cost(runs[training, name])),
            }
    index = pd.MultiIndex.from_arrays(
        [[section for section, _ in rows], [name for _, name in rows]], names=["section", "name"]
    )
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    in_order = sorted(columns, key=lambda column: _KINDS.index(column.partition(".")[0]))
    return pd.DataFrame(list(rows.values()), index=index, columns=in_order)


def _columns(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{kind}.{key}": value for key, value in values.items()}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat


def _metrics(stages: Iterable[str], name: str, paths: Paths) -> dict[str, Any]:
    """Return the metrics that the stages have measured of an experiment."""
    metrics: dict[str, Any] = {}
    for stage in stages:
        if (path := paths.metrics(stage, name)).is_file():
            metrics |= read_stage_json(path, stage, name)
    return metrics


def _sizes(section: str, paths: Paths) -> dict[str, dict[str, Any]]:
    """Return the size of each experiment's network, from the section's comparison."""
    stage = _COMPARISONS.get(section)
    if stage is None or not paths.metrics(stage).is_file():
        return {}
    return {
        row["cell"]: {key: row[key] for key in _SIZES if key in row}
        for row in comparison_rows(stage, paths)
        if "source" not in row and row.get("set", "test") == "test"
    }


def _cost(run: StageRun) -> dict[str, Any]:
    costs = {key: value for key, value in run.measurements.items() if key.startswith("core_seconds")}
    return costs | {key: value for key in ("seconds", "hardware") if (value := getattr(run, key))}
