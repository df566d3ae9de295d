"""Replay of run records: create or complete, from its record, a run that MLflow lacks or has only in part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seesay.tracking import mlflow_runs
from seesay.tracking.records import RunRecord
from seesay.tracking.store import Store, experiment_id, experiment_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def experiment_of(root: Path, record: RunRecord) -> str:
    """Return the MLflow experiment of a record. If the tracker was down, it is the one the stage belongs to."""
    return record.experiment or experiment_name(root, record.stage)


def find_run(client: MlflowClient, store: Store, root: Path, record: RunRecord) -> Any | None:
    """Return MLflow's run of a record, even if a user has deleted it: a deleted run must not be created again."""
    experiment = experiment_id(client, store, experiment_of(root, record))
    condition = f"tags.`seesay.record_id` = '{record.record_id}'"
    found = mlflow_runs.find_runs(client, [experiment], condition, newest=1, deleted=True)
    return found[0] if found else None


def is_whole(run: Any, record: RunRecord) -> bool:
    """Return true if MLflow has the complete record. It has not if the tracker went down during the run."""
    return bool(run.info.lifecycle_stage == "deleted" or run.info.status == record.status)


def replay(client: MlflowClient, store: Store, root: Path, record: RunRecord, *, parent: str | None, run: Any) -> str:
    """Create the run of a record, or complete `run`, with the original times and steps, and return its id."""
    if run is None:
        tags = {"seesay.replayed": "true", "seesay.original_run_id": record.run_id or "none"}
        experiment = experiment_id(client, store, experiment_of(root, record))
        run_id = mlflow_runs.start_run(client, experiment, record, parent=parent, tags=tags)
    else:
        run_id = str(run.info.run_id)
        mlflow_runs.set_tags(client, run_id, {"seesay.replayed": "completed"} | mlflow_runs.run_tags(record))
    mlflow_runs.log_datasets(client, run_id, record.datasets)
    mlflow_runs.log_points(client, run_id, record.history)
    mlflow_runs.log_results(client, run_id, record)
    mlflow_runs.log_artifacts(client, run_id, root, record.artifacts)
    mlflow_runs.end_run(client, run_id, status=record.status, ended_ms=record.ended_ms)
    return run_id
