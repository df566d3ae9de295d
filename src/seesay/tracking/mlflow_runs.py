"""How a run record becomes an MLflow run, whether live or replayed: the same calls, so that both show the same."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from seesay.core.files import file_digest
from seesay.tracking.environment import Process
from seesay.tracking.records import ArtifactFile, DatasetUse, Point, RunRecord

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# MLflow's limits (mlflow.utils.validation, 3.17).
MAX_KEY, MAX_PARAM, MAX_TAG, MAX_DIGEST = 250, 6000, 8000, 36
MAX_PARAMS_A_CALL, MAX_METRICS_A_CALL = 100, 1000
MAX_ARTIFACT_BYTES = 100_000_000
"""Larger files stay with DVC: the run keeps their digest."""

PARENT = "mlflow.parentRunId"


def start_run(
    client: MlflowClient, experiment: str, record: RunRecord, *, parent: str | None, tags: Mapping[str, str]
) -> str:
    """Creates the run of a record, running, with its parameters and tags; returns its id.

    A run that an attempt which broke off has left behind is completed, so that a record never has two.
    """
    nesting = {PARENT: parent} if parent else {}
    everything = {**run_tags(record), **tags, **nesting}
    found = find_runs(client, [experiment], f"tags.`seesay.record_id` = '{record.record_id}'", newest=1)
    run = (
        found[0]
        if found
        else client.create_run(experiment, start_time=record.started_ms, tags=everything, run_name=record.run_name)
    )
    run_id: str = run.info.run_id
    if record.changes:
        client.log_text(run_id, record.changes, "git/changes.diff")
    log_params(client, run_id, record.params if record.seed is None else {**record.params, "seed": record.seed})
    return run_id


def run_tags(record: RunRecord) -> dict[str, str]:
    """All tags that a record alone determines; `@` and other signs MLflow refuses in keys occur in values only."""
    source = {
        "mlflow.user": _user(),
        "mlflow.source.name": f"stages/{record.stage}.py",
        "mlflow.source.type": "LOCAL",
        "dvc.stage": record.address,
        "seesay.record_id": record.record_id,
    }
    if "git.commit" in record.tags:
        source["mlflow.source.git.commit"] = record.tags["git.commit"]
    tags = {**source, **record.environment, **record.tags, **dataset_tags(record.datasets), **model_tags(record.models)}
    return {_key(key): str(value)[:MAX_TAG] for key, value in tags.items()}


def dataset_tags(datasets: Sequence[DatasetUse]) -> dict[str, str]:
    """`data.substitutes`: the files that stood in for official ones; nothing where there were none."""
    names = sorted({f"{dataset.name}: {name}" for dataset in datasets for name in dataset.substitutes})
    return {"data.substitutes": ", ".join(names)} if names else {}


def model_tags(models: Sequence[ArtifactFile]) -> dict[str, str]:
    if not models:
        return {}
    return {"model.path": ", ".join(m.path for m in models), "model.sha256": ", ".join(m.sha256 for m in models)}


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    values = [Param(_key(key), _text(value)[:MAX_PARAM]) for key, value in params.items()]
    for some in _batches(values, MAX_PARAMS_A_CALL):
        client.log_batch(run_id, params=some)


def log_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Curves: every metric at its own step and time. Logging the same point again changes nothing."""
    from mlflow.entities import Metric

    values = [Metric(_key(key), value, p.time_ms, p.step) for p in points for key, value in p.metrics.items()]
    for some in _batches(values, MAX_METRICS_A_CALL):
        client.log_batch(run_id, metrics=some)


def log_results(client: MlflowClient, run_id: str, record: RunRecord) -> None:
    """Summary and measurements, as of the run's end.

    A summary value whose name is a curve's too (`val/loss`: of the epoch kept) goes under `final/`, not into the curve.
    """
    curves = {name for point in record.history for name in point.metrics}
    results = {f"final/{name}" if name in curves else name: value for name, value in record.summary.items()}
    results |= {f"measured/{name}": value for name, value in record.measurements.items()}
    log_points(client, run_id, [Point(0, record.ended_ms, results)])


def log_datasets(client: MlflowClient, run_id: str, datasets: Sequence[DatasetUse]) -> None:
    """What `mlflow.log_input` would log, without loading any data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for use in datasets:
        files = use.source.get("files", [])
        source = {"url": files[0]["url"] if files else "", "files": [file["url"] for file in files]}
        profile = {"digest": use.digest, "substitutes": use.substitutes, "num_files": len(files)}
        dataset = Dataset(
            name=use.name,
            digest=use.digest[:MAX_DIGEST],
            source_type="http",
            source=json.dumps(source)[:65_000],
            profile=json.dumps(profile),
        )
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", use.context)]))
    if inputs:
        client.log_inputs(run_id, inputs)


def log_artifacts(client: MlflowClient, run_id: str, root: Path, artifacts: Sequence[ArtifactFile]) -> None:
    """The files that are still what was recorded; one that is gone, changed or very large is left out."""
    for artifact in artifacts:
        path = root / artifact.path
        if path.is_file() and path.stat().st_size <= MAX_ARTIFACT_BYTES and file_digest(path) == artifact.sha256:
            client.log_artifact(run_id, str(path), artifact.folder or None)


def end_run(client: MlflowClient, run_id: str, *, status: str, ended_ms: int) -> None:
    client.set_terminated(run_id, status=status, end_time=ended_ms)


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    for some in _batches([RunTag(_key(key), str(value)[:MAX_TAG]) for key, value in tags.items()], MAX_PARAMS_A_CALL):
        client.log_batch(run_id, tags=some)


def find_runs(
    client: MlflowClient,
    experiments: Sequence[str],
    condition: str,
    *,
    newest: int | None = None,
    deleted: bool = False,
) -> list[Any]:
    """Runs (with `deleted`, also those in MLflow's bin) that fulfil an MLflow filter, the newest first."""
    from mlflow.entities import ViewType

    found: list[Any] = []
    token: str | None = None
    while experiments:
        page = client.search_runs(
            list(experiments),
            filter_string=condition,
            run_view_type=ViewType.ALL if deleted else ViewType.ACTIVE_ONLY,
            max_results=newest or 1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token or (newest and len(found) >= newest):
            break
    return found[:newest]


def close_dead_runs(client: MlflowClient, experiments: Sequence[str]) -> int:
    """Marks as KILLED what a process that is gone has left RUNNING; returns how many runs these were."""
    closed = 0
    for run in find_runs(client, experiments, "attributes.status = 'RUNNING'"):
        process = run.data.tags.get("seesay.process")
        if process and Process.parse(process).is_gone:
            client.set_terminated(run.info.run_id, status="KILLED")
            closed += 1
    return closed


def _batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _key(key: str) -> str:
    return re.sub(r"[^\w\-. /:]", "_", key, flags=re.ASCII)[:MAX_KEY]


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
