"""The parent MLflow run of all stage runs of one pipeline execution.

The first stage creates it. Each stage ends it, and the next one sets it to RUNNING again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from seesay.core.files import read_json, write_json
from seesay.tracking.environment import lock_digest, workspace_name
from seesay.tracking.mlflow_runs import end_run
from seesay.tracking.store import PIPELINE, Store, experiment_id, read_prefix

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@dataclass(frozen=True)
class PipelineRun:
    """State shared by the stages of one execution, stored in `.work/pipelines/<key>.json` and protected by a lock."""

    client: MlflowClient
    store: Store
    folder: Path
    key: str

    @property
    def _state(self) -> Path:
        return self.folder / f"{self.key}.json"

    def _lock(self) -> FileLock:
        return FileLock(self.folder / f"{self.key}.run.lock", timeout=60)

    def begin_stage(self, root: Path, *, started_ms: int, tags: Mapping[str, str]) -> str:
        """Set the pipeline run to RUNNING and return its id. The first stage creates it."""
        with self._lock():
            state = self._read()
            if state is not None and self._exists(state["run_id"]):
                self.client.update_run(state["run_id"], status="RUNNING")
                return str(state["run_id"])
            run_id = create_pipeline_run(
                self.client, self.store, root, started_ms=started_ms, tags={**tags, "seesay.pipeline_key": self.key}
            )
            write_json(self._state, {"store": self.store.uri, "run_id": run_id, "failed": False})
            return run_id

    def end_stage(self, *, failed: bool, ended_ms: int) -> None:
        """End the pipeline run with this stage, so that a plain `dvc repro` leaves no run in the state RUNNING."""
        with self._lock():
            state = self._read()
            if state is None:
                return
            if failed and not state["failed"]:
                state["failed"] = True
                write_json(self._state, state)
            status = "FAILED" if state["failed"] else "FINISHED"
            end_run(self.client, state["run_id"], status=status, ended_ms=ended_ms)

    def _read(self) -> dict[str, Any] | None:
        if not self._state.is_file():
            return None
        state: dict[str, Any] = read_json(self._state)
        return state if state["store"] == self.store.uri else None

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False  # the store was deleted meanwhile


def create_pipeline_run(
    client: MlflowClient, store: Store, root: Path, *, started_ms: int, tags: Mapping[str, str], verb: str = "repro"
) -> str:
    """Create a pipeline run in the state RUNNING, named after DVC's experiment or its start time, and return its id."""
    experiment = os.environ.get("DVC_EXP_NAME", "")
    when = datetime.fromtimestamp(started_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
    own = {
        "mlflow.source.name": "dvc.yaml",
        "mlflow.source.type": "PROJECT",
        "seesay.workspace": workspace_name(root),
        "dvc.exp_name": experiment,
        "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "dvc.lock_sha256_at_start": lock_digest(root),
    }
    run = client.create_run(
        experiment_id(client, store, read_prefix(root) + PIPELINE),
        start_time=started_ms,
        tags={**{key: value for key, value in own.items() if value}, **tags},
        run_name=experiment or f"{verb} {when}",
    )
    return str(run.info.run_id)
