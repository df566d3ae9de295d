"""The tie with an MLflow server on PostgreSQL, with artifacts on S3 and basic authentication.

One story: each test goes on where the one before it stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.stores.conftest import (
    ADMIN_PASSWORD,
    BUCKET,
    S3_SECRET,
    SECRETS,
    USER_PASSWORD,
    MlflowServer,
    ObjectStore,
    Postgres,
    files_below,
    leaks,
)
from tests.tracking.conftest import STAGE, Project, history, start_project

from seesay.core.files import write_json
from seesay.tracking.records import read_record
from seesay.tracking.registry import register_models
from seesay.tracking.store import fetch_model

ADDRESSES = {"train_classifier@mlp", "train_classifier@cnn", "evaluate_classifier@mlp"}
WARNING = "seesay: warning: MLflow does not record this run"

WAITING = """
        import os, time
        if epoch == 2 and os.environ.get("WAIT_FOR") and (stage, cell) == ("train_classifier", "mlp"):
            Path("waiting").touch()
            while not Path(os.environ["WAIT_FOR"]).exists():
                time.sleep(0.1)
"""
"""Put into a stage's loop over its epochs: the first stage waits before its second epoch."""


@dataclass
class Workplace:
    """A project whose runs go to the server, with everything that its commands have printed."""

    project: Project
    server: MlflowServer
    outputs: dict[str, bytes] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.project.root

    def python(self, *arguments: str, status: int = 0) -> str:
        done = self.project.run(sys.executable, "-m", *arguments, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        output = done.stdout + done.stderr
        self.outputs[f"{len(self.outputs)}: {' '.join(arguments)}"] = output.encode()
        return output


@pytest.fixture(scope="module")
def workplace(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    loop = "    for epoch in (1, 2):\n"
    assert loop in STAGE
    waiting = STAGE.replace(loop, loop + WAITING)
    project = start_project(tmp_path_factory.mktemp("project"), stage=waiting)
    return Workplace(project, mlflow_server)


@pytest.fixture(autouse=True)
def _user(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workplace.server.uri)
    log_in(monkeypatch, "trainer")


def log_in(monkeypatch: pytest.MonkeyPatch, name: str, password: str = USER_PASSWORD) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def stages_of(project: Project) -> dict[str, Any]:
    """What the store in the environment says of each stage's last run."""
    client = project.client
    return {
        run.data.tags["dvc.stage"]: {
            "name": run.info.run_name,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "metrics": {name: history(client, run.info.run_id, name) for name in run.data.metrics},
            "artifacts": [(file.path, file.file_size) for file in client.list_artifacts(run.info.run_id, "models")],
            "tags": {k: v for k, v in run.data.tags.items() if k.startswith(("dvc.", "git.", "model.", "seesay.rec"))},
            "is_nested": "mlflow.parentRunId" in run.data.tags,
        }
        for run in project.runs("classification")
    }


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_pipeline_recorded_on_the_server_is_the_one_that_sqlite_shows(workplace, s3, monkeypatch):
    """The runs made live on the server equal those that `seesay sync` makes in SQLite from the run records."""
    from mlflow.server import get_app_client

    log_in(monkeypatch, "admin", ADMIN_PASSWORD)
    users = get_app_client("basic-auth", tracking_uri=workplace.server.uri)
    for name in ("trainer", "reviewer"):
        users.create_user(name, USER_PASSWORD)
    log_in(monkeypatch, "trainer")
    workplace.project.write_rate(0.25)
    assert WARNING not in workplace.python("dvc", "repro")
    assert "3 ran (pipeline run" in workplace.python("seesay.cli", "sync")
    on_server = stages_of(workplace.project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not (workplace.root / "mlruns").exists()
    assert "3 replayed" in workplace.python("seesay.cli", "sync")
    assert on_server == stages_of(workplace.project)
    assert set(on_server) == ADDRESSES
    assert all(stage["artifacts"] and stage["is_nested"] for stage in on_server.values())
    stored = {Path(key).name: content for key, content in s3.objects("mlflow/").items()}
    assert stored["train_classifier-mlp.txt"] == b"0.25"


def test_a_server_stopped_in_the_middle_costs_one_warning(workplace, tmp_path, monkeypatch):
    """The pipeline goes on; once the server is back, `seesay sync` backfills all of it, as another user too."""
    project, go = workplace.project, tmp_path / "go"
    project.write_rate(0.125, other=0.375)
    monkeypatch.setenv("WAIT_FOR", str(go))
    before = {name: stage["times"] for name, stage in stages_of(project).items()}
    running = project.start(sys.executable, "-m", "dvc", "repro")
    wait_for((workplace.root / "waiting").exists)
    wait_for(lambda: project.runs("classification")[-1].info.status == "RUNNING")
    workplace.server.stop()
    go.touch()
    output, _ = running.communicate(timeout=300)
    workplace.outputs["dvc repro, without a server"] = output.encode()
    assert running.returncode == 0, output
    assert output.count(WARNING) == 1
    for stage, cell in (address.split("@") for address in ADDRESSES):
        record = read_record(workplace.root / f"runs/{stage}/{cell}.json")
        assert (record.status, record.tracking, len(record.history)) == ("FINISHED", "unreachable", 2)
    assert "MLflow is not in step with DVC: " in workplace.python("seesay.cli", "sync", status=1)
    workplace.server.start()
    log_in(monkeypatch, "reviewer")
    assert "3 replayed" in workplace.python("seesay.cli", "sync")
    assert "unchanged)" in workplace.python("seesay.cli", "sync")
    on_server = stages_of(project)
    assert {stage["status"] for stage in on_server.values()} == {"FINISHED"}
    assert not set(before.values()) & {stage["times"] for stage in on_server.values()}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    workplace.python("seesay.cli", "sync")
    assert on_server == stages_of(project)


def test_a_wrong_password_costs_one_warning_that_says_so(workplace, monkeypatch):
    workplace.project.write_rate(0.0625, other=0.375)
    log_in(monkeypatch, "trainer", S3_SECRET)
    output = workplace.python("dvc", "repro", "train_classifier@mlp")
    assert output.count(WARNING) == 1
    assert "401" in output
    log_in(monkeypatch, "trainer")
    assert "1 replayed" in workplace.python("seesay.cli", "sync")


def test_a_released_model_comes_back_from_the_bucket(workplace, s3):
    root, record = workplace.root, read_record(workplace.root / "runs/train_classifier/mlp.json")
    write_json(root / "models/released/tiny/config.json", {"what": "a bundle"})
    entry = {"name": "tiny", "kind": "classifier", "cell": "mlp", "bundle": "models/released/tiny"}
    entry |= {"weights": record.models[0].path, "sha256": record.models[0].sha256, "metric": "test/top1", "value": 0.5}
    assert register_models(root, [entry]) == 1
    folder = fetch_model(root, "models:/tiny@champion")
    assert files_below(folder).keys() == {str(folder / "config.json")}
    assert (folder / "config.json").read_bytes() == (root / "models/released/tiny/config.json").read_bytes()
    assert any(key.endswith("bundle/config.json") for key in s3.objects("mlflow/"))


def test_no_credential_is_in_an_output_file_log_or_database(
    workplace: Workplace, s3: ObjectStore, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.python("dvc", "remote", "add", "--local", "storage", f"s3://{BUCKET}/dvc")
    remote = workplace.project.run(
        sys.executable, "-m", "dvc", "remote", "modify", "--local", "storage", "secret_access_key", S3_SECRET
    )
    assert remote.returncode == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    workplace.project.write_rate(0.03125)
    workplace.python("dvc", "repro")
    workplace.python("seesay.cli", "sync")
    databases = {name: postgres.dump(name) for name in ("mlflow", "mlflow_auth")}
    assert b"train_classifier@mlp" in databases["mlflow"]
    assert b"reviewer" in databases["mlflow_auth"]
    kept = {"mlflow.log": workplace.server.log.read_bytes(), **databases, **workplace.outputs}
    files = files_below(workplace.root)
    assert {Path(path).name for path in leaks(files)} == {"config.local"}
    assert leaks({**kept, **s3.objects()}) == []
    assert leaks({secret: secret.encode() for secret in SECRETS}) == list(SECRETS)
