"""The whole demo on the server, which stops in the middle: in the end it shows the runs that SQLite shows.

Two demos take minutes, so this runs only where SEESAY_DEMO_ON_SERVER is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.stores.conftest import ADMIN_PASSWORD, USER_PASSWORD, MlflowServer, leaks

from seesay.tracking.store import locate_store, open_client

pytestmark = pytest.mark.skipif("SEESAY_DEMO_ON_SERVER" not in os.environ, reason="SEESAY_DEMO_ON_SERVER is not set")

ROOT = Path(__file__).resolve().parents[2]
WARNING = "seesay: warning: MLflow does not record this run"
STOP_AFTER = 20
"""Run records that are there when the server stops: trainings are running."""


def clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def start(root: Path, *arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
    code = os.pathsep.join([str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "seesay.cli", *arguments], cwd=folder or root, text=True,
        env={**os.environ, "PYTHONPATH": code}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def sync(root: Path) -> str:
    process = start(root, "sync", folder=root / ".work/demo")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def stages_of(root: Path) -> dict[str, Any]:
    """What the store in the environment says of the last run of each stage of the demo, without what varies."""
    client = open_client(locate_store(root))
    found = {}
    experiments = [one.experiment_id for one in client.search_experiments() if one.name.startswith("demo-")]
    for run in client.search_runs(experiments, order_by=["attributes.start_time ASC"], max_results=1000):
        if "dvc.stage" not in run.data.tags:
            continue
        metrics = {
            name: [(point.step, str(point.value)) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if not name.startswith("measured/")
        }
        found[run.data.tags["dvc.stage"]] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "params": run.data.params,
            "metrics": {name: sorted(points) for name, points in metrics.items()},
            "artifacts": {file.path for file in client.list_artifacts(run.info.run_id) if not file.is_dir},
            "folders": {file.path for file in client.list_artifacts(run.info.run_id) if file.is_dir},
            "model": {name: value for name, value in run.data.tags.items() if name.startswith("model.")},
            "is_nested": "mlflow.parentRunId" in run.data.tags,
        }
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str]]:
    assert one.keys() == other.keys()
    return [(stage, key) for stage in one for key in one[stage] if one[stage][key] != other[stage][key]]


def test_the_demo_on_a_server_that_stops_shows_the_runs_of_sqlite(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.server import get_app_client

    local = clone(tmp_path / "local")
    process = start(local, "demo", "--jobs", "2")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    in_sqlite = stages_of(local)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
    get_app_client("basic-auth", tracking_uri=mlflow_server.uri).create_user("trainer", USER_PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trainer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", USER_PASSWORD)
    remote = clone(tmp_path / "remote")
    process = start(remote, "demo", "--jobs", "2")
    while len(list((remote / ".work/demo/runs").rglob("*.json"))) < STOP_AFTER:
        assert process.poll() is None
        time.sleep(0.2)
    mlflow_server.stop()
    said, _ = process.communicate()
    assert said.count(WARNING) == 1, said
    assert "gate: The gate passed" in said
    mlflow_server.start()
    assert " replayed" in sync(remote)
    assert "unchanged)" in sync(remote)
    on_server = stages_of(remote)
    assert len(on_server) > 40
    assert differences(on_server, in_sqlite) == []
    assert leaks({"said": said.encode()}) == []
