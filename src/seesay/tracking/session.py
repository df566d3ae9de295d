"""What happens in MLflow while one stage runs: its messages, in their order, become one run under its pipeline run."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from seesay.tracking import mlflow_runs
from seesay.tracking.environment import Process
from seesay.tracking.pipeline_run import PipelineRun
from seesay.tracking.records import ArtifactFile, DatasetUse, Point, RunRecord, now_ms
from seesay.tracking.stage_hash import compute_stage_hash
from seesay.tracking.store import PIPELINE, experiment_id, experiment_name, locate_store, open_client, read_prefix
from seesay.tracking.workspaces import find_main_repository

ATTEMPTS = 4
"""SQLite under several writers now and then says that it is locked."""


class Session:
    """One stage's connection: `handle` each message, `abandon` when the stage went without saying how it ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.has_ended = False
        self._process: Process | None = None
        self._run_id: str | None = None
        self._pipeline: PipelineRun | None = None

    @property
    def stage_is_gone(self) -> bool:
        return self._process is not None and self._process.is_gone

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """Does what a message says and returns the answer; raises what MLflow raises."""
        do = message.pop("do")
        handler = getattr(self, f"_{do}")
        for attempt in range(ATTEMPTS):
            try:
                answer: dict[str, Any] = handler(**message) or {}
                return answer
            except Exception as error:
                if "database is locked" not in str(error) or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.5 * (attempt + 1))
        raise AssertionError("unreachable")

    def abandon(self) -> None:
        """Closes the run of a stage that was killed."""
        if not self.has_ended and self._run_id is not None:
            self._end(status="KILLED", ended_ms=now_ms())

    def _start(self, *, root: str, record: dict[str, Any], pipeline: dict[str, Any], process: str) -> dict[str, Any]:
        self._process = Process.parse(process)
        workspace, run = Path(root), RunRecord(**record)
        store = locate_store(find_main_repository(workspace))
        client = self._client = open_client(store)
        name = experiment_name(workspace, run.stage)
        experiment = experiment_id(client, store, name)
        above = experiment_id(client, store, read_prefix(workspace) + PIPELINE)
        mlflow_runs.close_dead_runs(client, list({experiment, above}))
        parent = None
        if pipeline["is_pipeline"]:
            self._pipeline = PipelineRun(client, store, self.folder, pipeline["key"])
            owner = {"seesay.process": str(Process(**pipeline["owner"]))}
            inherited = {k: v for k, v in run.tags.items() if k.startswith(("git.", "dvc.exp"))} | run.environment
            parent = self._pipeline.begin_stage(workspace, started_ms=run.started_ms, tags={**inherited, **owner})
        live = {"seesay.process": process}
        self._run_id = mlflow_runs.start_run(client, experiment, run, parent=parent, tags=live)
        found = {"run_id": self._run_id, "experiment": name, "pipeline_run_id": parent}
        return found | self._stage_hash(workspace, run)

    def _stage_hash(self, workspace: Path, run: RunRecord) -> dict[str, Any]:
        """The hash as a tag; outside of a DVC project there is none."""
        if not (workspace / "dvc.yaml").is_file():
            return {}
        try:
            stage_hash = compute_stage_hash(workspace, run.address)
        except Exception:  # DVC is not MLflow's business: the run goes on without this tag
            traceback.print_exc()
            return {}
        self._tags(tags={"dvc.stage_hash": stage_hash})
        return {"stage_hash": stage_hash}

    def _points(self, *, points: list[dict[str, Any]]) -> None:
        mlflow_runs.log_points(self._client, self._id, [Point(**point) for point in points])

    def _dataset(self, *, dataset: dict[str, Any]) -> None:
        use = DatasetUse(**dataset)
        mlflow_runs.log_datasets(self._client, self._id, [use])
        self._tags(tags=mlflow_runs.dataset_tags([use]))

    def _artifacts(self, *, root: str, artifacts: list[dict[str, Any]]) -> None:
        mlflow_runs.log_artifacts(self._client, self._id, Path(root), [ArtifactFile(**a) for a in artifacts])

    def _tags(self, *, tags: dict[str, str]) -> None:
        mlflow_runs.set_tags(self._client, self._id, tags)

    def _results(self, *, record: dict[str, Any]) -> None:
        """The last word on a run: everything that only its end knows."""
        run = RunRecord(**record)
        run.history = [Point(**point) for point in record["history"]]
        run.datasets = [DatasetUse(**use) for use in record["datasets"]]
        run.models = [ArtifactFile(**model) for model in record["models"]]
        mlflow_runs.log_results(self._client, self._id, run)
        self._tags(tags=mlflow_runs.dataset_tags(run.datasets) | mlflow_runs.model_tags(run.models))

    def _end(self, *, status: str, ended_ms: int) -> None:
        mlflow_runs.end_run(self._client, self._id, status=status, ended_ms=ended_ms)
        if self._pipeline is not None:
            self._pipeline.end_stage(failed=status != "FINISHED", ended_ms=ended_ms)
        self.has_ended = True

    @property
    def _id(self) -> str:
        assert self._run_id is not None, "a stage sends start first"
        return self._run_id
