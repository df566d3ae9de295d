"""The tie with a real `mlflow server` instead of the store in the repository."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.tracking.recorder import record_stage
from seesay.tracking.records import read_record
from seesay.tracking.registry import register_models
from seesay.tracking.sync import sync


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store / "mlflow.db", folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


SECRET = "s3cret-w0rd"


def test_a_server_gets_live_runs_replayed_runs_and_models(server, workspace, monkeypatch, capfd):
    """The password in its URI stays in the environment, although MLflow prints the link of each run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("//", f"//someone:{SECRET}@"))
    monkeypatch.setenv("SEESAY_PIPELINE", "server")
    root = workspace.root
    with record_stage(root, "train_classifier", "mlp", params={"rate": 0.25}) as log:
        log({"val/loss": 3.0}, step=1)
        log.model(Paths(root).classifier("mlp"))
        log.artifact(Paths(root).classifier("mlp"))
    live = read_record(root / "runs/train_classifier/mlp.json")
    assert live.tracking == "recorded"
    report = sync(root)
    assert report.problem is None
    assert {line.address: line.state for line in report.lines}["train_classifier@cnn"] == "replayed"
    runs = {run.info.run_name: run for run in workspace.runs("demo-classification")}
    assert runs["train mlp"].info.run_id == live.run_id
    assert runs["train mlp"].data.metrics["val/loss"] == 3.0
    assert runs["train cnn"].data.metrics["val/top1"] == 0.5
    entry = {"name": "demo-mlp", "kind": "classifier", "cell": "mlp", "weights": "models/classifiers/mlp/0.pt"}
    write_json(root / "models/released/demo-mlp/config.json", {})
    entry |= {
        "bundle": "models/released/demo-mlp",
        "sha256": live.models[0].sha256,
        "metric": "test/top1",
        "value": 0.5,
    }
    assert [register_models(root, [entry]) for _ in range(2)] == [1, 0]
    files = workspace.client.list_artifacts(live.run_id, "bundle")
    assert "bundle/MLmodel" in {file.path for file in files}
    assert not sync(root).changed
    assert not (root / "mlruns/artifacts").exists()
    output = "".join(capfd.readouterr())
    assert "View run" in output
    texts = [output, *(p.read_text(errors="replace") for p in root.rglob("*") if p.is_file())]
    assert not [text for text in texts if SECRET in text]
