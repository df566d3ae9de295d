"""Conversion of a run record into an MLflow run. Live and replayed runs use the same calls, so they look the same."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from seesay.core.errors import redact
from seesay.core.files import file_digest
from seesay.tracking.environment import Process
from seesay.tracking.records import ArtifactFile, DatasetUse, Point, RunRecord
from seesay.tracking.store import NOTE, Store, experiment_id, experiment_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# MLflow's limits (mlflow.utils.validation, 3.17).
MAX_KEY, MAX_PARAM, MAX_TAG, MAX_DIGEST = 250, 6000, 8000, 36
MAX_PARAMS_A_CALL, MAX_METRICS_A_CALL = 100, 1000
MAX_ARTIFACT_BYTES = 100_000_000
"""Size limit of an uploaded file. Larger files stay with DVC, and the run record keeps their digest."""

MAX_CHANGES = 30
"""Changed parameters in a run's description."""

SAMPLES = {
    "evaluate_classifier": ("predictions.webp", "mistakes.webp"),
    "explain_classifier": ("gradcam.webp",),
    "evaluate_autoencoder": ("reconstructions.webp", "completions.webp"),
    "explain_autoencoder": ("maps.webp",),
    "score_captions": ("captions.webp",),
}
"""Figures of a stage that MLflow shows as images, the first as the run's summary. It shows no WebP files."""

MAX_SAMPLE_SIDE = 1200
"""Longer side in pixels of an image in MLflow."""

PARENT = "mlflow.parentRunId"


def start_run(
    client: MlflowClient, experiment: str, record: RunRecord, *, parent: str | None, tags: Mapping[str, str]
) -> str:
    """Create the run of a record in the state RUNNING, with its parameters and tags, and return its id.

    If an interrupted attempt has left a run of this record, that run is completed. So a record never has two runs.
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
    params = record.params if record.seed is None else {**record.params, "seed": record.seed}
    log_params(client, run_id, params)
    set_tags(client, run_id, {NOTE: describe_change(client, experiment, record, params)})
    return run_id


def describe_change(client: MlflowClient, experiment: str, record: RunRecord, params: Mapping[str, Any]) -> str:
    """Return a run's description in Markdown: its parameters that differ from those of the stage's previous run."""
    earlier = f"tags.`dvc.stage` = '{record.address}' and attributes.start_time < {record.started_ms}"
    found = find_runs(client, [experiment], earlier, newest=1)
    if not found:
        return f"The first run of `{record.address}`."
    before, after = found[0].data.params, {_key(key): _text(value)[:MAX_PARAM] for key, value in params.items()}
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    run = f"[the previous run](#/experiments/{experiment}/runs/{found[0].info.run_id}) of `{record.address}`"
    if not changed:
        return f"The same parameters as {run}; data, code or environment may differ."
    lines = [f"{len(changed)} changed since {run}:", "", "| parameter | before | now |", "|---|---|---|"]
    lines += [f"| {key} | {before.get(key, 'absent')} | {after.get(key, 'absent')} |" for key in changed[:MAX_CHANGES]]
    return "\n".join(lines)


def run_tags(record: RunRecord) -> dict[str, str]:
    """Return all tags that depend on the record alone.

    MLflow rejects `@` and some other characters in keys, so these occur in values only.
    """
    source = {
        "mlflow.user": _user(),
        "mlflow.source.name": f"stages/{record.stage}.py",
        "mlflow.source.type": "LOCAL",
        "dvc.stage": record.address,
        "seesay.record_id": record.record_id,
        "stage": record.stage,
        "name": record.cell or record.stage,
        **({"dataset": record.datasets[0].name} if record.datasets else {}),
    }
    if "git.commit" in record.tags:
        source["mlflow.source.git.commit"] = record.tags["git.commit"]
    tags = {**source, **record.environment, **record.tags, **dataset_tags(record.datasets), **model_tags(record.models)}
    return {_key(key): str(value)[:MAX_TAG] for key, value in tags.items()}


def dataset_tags(datasets: Sequence[DatasetUse]) -> dict[str, str]:
    """Return the tag `data.substitutes`, which names the files that replaced official ones, or no tag if none did."""
    names = sorted({f"{dataset.name}: {name}" for dataset in datasets for name in dataset.substitutes})
    return {"data.substitutes": ", ".join(names)} if names else {}


def model_tags(models: Sequence[ArtifactFile]) -> dict[str, str]:
    if not models:
        return {}
    return {"model.path": ", ".join(m.path for m in models), "model.sha256": ", ".join(m.sha256 for m in models)}


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    values = [Param(_key(key), _text(value)[:MAX_PARAM]) for key, value in params.items()]
    for batch in _batches(values, MAX_PARAMS_A_CALL):
        client.log_batch(run_id, params=batch)


def log_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Log curves: every metric at its own step and time. Logging the same point again changes nothing."""
    from mlflow.entities import Metric

    values = [Metric(_key(key), value, p.time_ms, p.step) for p in points for key, value in p.metrics.items()]
    for batch in _batches(values, MAX_METRICS_A_CALL):
        client.log_batch(run_id, metrics=batch)


def log_results(client: MlflowClient, run_id: str, record: RunRecord) -> None:
    """Log the summary and the measurements at the end time of the run.

    A summary value with the name of a curve (such as `val/loss` of the selected epoch) is logged under `final/`. It
    does not become a point of the curve.
    """
    curves = {name for point in record.history for name in point.metrics}
    results = {f"final/{name}" if name in curves else name: value for name, value in record.summary.items()}
    results |= {f"measured/{name}": value for name, value in record.measurements.items()}
    log_points(client, run_id, [Point(0, record.ended_ms, results)])


def log_datasets(client: MlflowClient, run_id: str, datasets: Sequence[DatasetUse]) -> None:
    """Log the same dataset inputs as `mlflow.log_input`, without loading any data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for use in datasets:
        files = use.source.get("files", [])
        urls = [redact(file["url"]) for file in files]
        source = {"url": urls[0] if urls else "", "files": urls}
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
    """Log the files that are unchanged since they were recorded. Skip missing, changed and very large files."""
    for artifact in artifacts:
        path = root / artifact.path
        if path.is_file() and path.stat().st_size <= MAX_ARTIFACT_BYTES and file_digest(path) == artifact.sha256:
            client.log_artifact(run_id, str(path), artifact.folder or None)
            stage = path.parent.parent.name
            if path.name in SAMPLES.get(stage, ()):
                _log_sample(client, run_id, path, is_summary=path.name == SAMPLES[stage][0])


def _log_sample(client: MlflowClient, run_id: str, path: Path, *, is_summary: bool) -> None:
    """Log a panel of pictures as an image, which MLflow shows beside those of other runs; once for each run."""
    from PIL import Image

    key = "summary" if is_summary else path.stem
    if any(artifact.path.startswith(f"images/{key}+") for artifact in client.list_artifacts(run_id, "images")):
        return
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    pixels.thumbnail((MAX_SAMPLE_SIDE, MAX_SAMPLE_SIDE))
    client.log_image(run_id, pixels, key=key, step=0, synchronous=True)
    if is_summary:  # by this name, since the comparison of runs shows artifacts of equal names
        client.log_image(run_id, pixels, artifact_file="summary.png")


def end_run(client: MlflowClient, run_id: str, *, status: str, ended_ms: int) -> None:
    client.set_terminated(run_id, status=status, end_time=ended_ms)


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    for batch in _batches([RunTag(_key(key), str(value)[:MAX_TAG]) for key, value in tags.items()], MAX_PARAMS_A_CALL):
        client.log_batch(run_id, tags=batch)


def find_runs(
    client: MlflowClient,
    experiments: Sequence[str],
    condition: str,
    *,
    newest: int | None = None,
    deleted: bool = False,
) -> list[Any]:
    """Return the runs that match an MLflow filter, newest first. With `deleted`, include the deleted runs."""
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
    """Mark runs as KILLED that an ended process has left RUNNING, and return their number."""
    closed = 0
    for run in find_runs(client, experiments, "attributes.status = 'RUNNING'"):
        process = run.data.tags.get("seesay.process")
        if process and Process.parse(process).is_gone:
            client.set_terminated(run.info.run_id, status="KILLED")
            closed += 1
    return closed


def experiment_of(root: Path, record: RunRecord) -> str:
    """Return the MLflow experiment of a record. If the tracker was down, it is the one the stage belongs to."""
    return record.experiment or experiment_name(root, record.stage)


def find_run(client: MlflowClient, store: Store, root: Path, record: RunRecord) -> Any | None:
    """Return MLflow's run of a record, even if a user has deleted it: a deleted run must not be created again."""
    experiment = experiment_id(client, store, experiment_of(root, record))
    condition = f"tags.`seesay.record_id` = '{record.record_id}'"
    found = find_runs(client, [experiment], condition, newest=1, deleted=True)
    return found[0] if found else None


def is_whole(run: Any, record: RunRecord) -> bool:
    """Return true if MLflow has the complete record. It has not if the tracker went down during the run."""
    return bool(run.info.lifecycle_stage == "deleted" or run.info.status == record.status)


def replay(client: MlflowClient, store: Store, root: Path, record: RunRecord, *, parent: str | None, run: Any) -> str:
    """Create the run of a record, or complete `run`, with the original times and steps, and return its id."""
    if run is None:
        tags = {"seesay.replayed": "true", "seesay.original_run_id": record.run_id or "none"}
        experiment = experiment_id(client, store, experiment_of(root, record))
        run_id = start_run(client, experiment, record, parent=parent, tags=tags)
    else:
        run_id = str(run.info.run_id)
        set_tags(client, run_id, {"seesay.replayed": "completed"} | run_tags(record))
    log_datasets(client, run_id, record.datasets)
    log_points(client, run_id, record.history)
    log_results(client, run_id, record)
    log_artifacts(client, run_id, root, record.artifacts)
    end_run(client, run_id, status=record.status, ended_ms=record.ended_ms)
    return run_id


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
