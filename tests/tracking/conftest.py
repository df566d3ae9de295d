"""A small real DVC project, and a look into its MLflow store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _tracking_store_registry

from seesay.core.paths import Paths
from seesay.tracking.recorder import record_stage
from seesay.tracking.store import locate_store, open_client

STAGE = '''
"""A stage as small as they come: reads its input and its learning rate, logs two epochs."""
import sys
from pathlib import Path

from ruamel.yaml import YAML

from seesay.tracking.recorder import record_stage

stage, cell = sys.argv[1], sys.argv[2]
rate = YAML(typ="safe").load(Path("params.yaml").read_text())["models"][cell]["learning_rate"]
with record_stage(Path(), stage, cell, params={"learning_rate": rate}, seed=7) as log:
    for epoch in (1, 2):
        log({"train/loss": rate / epoch}, step=epoch)
    weights = Path("models") / f"{stage}-{cell}.txt"
    weights.parent.mkdir(exist_ok=True)
    weights.write_text(str(rate))
    if rate < 0:
        raise ValueError("a negative learning rate")
    log.model(weights)
    log.artifact(weights)
    log.summary({"test/top1": 1 - rate})
'''

PIPELINE = """
stages:
  train_classifier:
    foreach: ${models}
    do:
      cmd: python stage.py train_classifier ${key}
      params: ['models.${key}']
      deps: [stage.py]
      outs: ['models/train_classifier-${key}.txt', 'runs/train_classifier/${key}.json']
      metrics: ['metrics/train_classifier/${key}.json': {cache: false}]
      plots: ['metrics/train_classifier/${key}.history.csv': {cache: false}]
  evaluate_classifier:
    foreach: [mlp]
    do:
      cmd: python stage.py evaluate_classifier ${item}
      deps: [stage.py, 'models/train_classifier-${item}.txt']
      outs: ['models/evaluate_classifier-${item}.txt', 'runs/evaluate_classifier/${item}.json']
      metrics: ['metrics/evaluate_classifier/${item}.json': {cache: false}]
      plots: ['metrics/evaluate_classifier/${item}.history.csv': {cache: false}]
"""


class Project:
    """A DVC project in a folder: change its parameters, run it, look at what MLflow holds."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write_rate(self, rate: float, *, other: float = 0.5) -> None:
        text = f"models: {{mlp: {{learning_rate: {rate}}}, cnn: {{learning_rate: {other}}}}}\n"
        (self.root / "params.yaml").write_text(text)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=self._environment, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command whose output and errors are one text."""
        both = subprocess.STDOUT
        return subprocess.Popen(
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=both, text=True, env=self._environment
        )

    @property
    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        return environment | {
            f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

    @property
    def client(self) -> MlflowClient:
        return open_client(locate_store(self.root))

    def runs(self, *experiments: str) -> list[Any]:
        """All runs of the experiments (all of ours, where none is named), the oldest first."""
        client = self.client
        wanted = [e for e in client.search_experiments() if e.name != "Default" and e.name in (experiments or [e.name])]
        return client.search_runs([e.experiment_id for e in wanted], order_by=["attributes.start_time ASC"])

    def content(self) -> list[Any]:
        """Everything the store says, comparable."""
        client = self.client
        return sorted(
            (
                run.info.run_id,
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                sorted(run.data.params.items()),
                sorted(run.data.tags.items()),
                [(name, history(client, run.info.run_id, name)) for name in sorted(run.data.metrics)],
            )
            for run in self.runs()
        )

    def forget_mlflow(self) -> None:
        """Deletes the store, and lets go of it in this process, where MLflow keeps connections to the deleted file."""
        shutil.rmtree(self.root / "mlruns")
        _tracking_store_registry._get_store_with_resolved_uri.cache_clear()
        for kind in (TrackingStore, RegistryStore):
            for engine in kind._engine_map.values():
                engine.dispose()
            kind._engine_map.clear()


def history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, int, str]]:
    """(step, time, value) of each point; the value as text, so that NaN equals NaN."""
    return sorted((m.step, m.timestamp, str(m.value)) for m in client.get_metric_history(run_id, name))


@pytest.fixture(autouse=True)
def _no_pipeline_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may themselves run under DVC or with a tracking server in the environment."""
    for name in list(os.environ):
        if name.startswith(("DVC_", "MLFLOW_TRACKING")) or name in ("SEESAY_PIPELINE", "SEESAY_TRACKING"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose tests build on each other: running DVC takes seconds."""
    return start_project(tmp_path_factory.mktemp("project"), stage=STAGE)


def start_project(root: Path, *, stage: str) -> Project:
    """Make a project whose three stage instances run the script `stage`, with a first commit."""
    project = Project(root)
    (project.root / "stage.py").write_text(stage)
    (project.root / "dvc.yaml").write_text(PIPELINE)
    (project.root / ".gitignore").write_text("/mlruns\n/.work\n/metrics\n")
    project.write_rate(0.25)
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "start")
    return project


HAND_PARAMS = "tracking: {experiment_prefix: demo-}\nclassifiers: {mlp: 1, cnn: 2}\n"
HAND_PIPELINE = """
stages:
  train_classifier:
    foreach: ${classifiers}
    do: {cmd: "python train.py ${key}"}
  report: {cmd: python report.py}
"""


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two cells that ran while MLflow was down; a report that has not run; a cell that is no longer in params."""
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    (tmp_path / "params.yaml").write_text(HAND_PARAMS)
    (tmp_path / "dvc.yaml").write_text(HAND_PIPELINE)
    for cell in ("mlp", "cnn", "gone"):
        with record_stage(tmp_path, "train_classifier", cell, params={"rate": 0.5}) as log:
            weights = Paths(tmp_path).classifier(cell)
            weights.parent.mkdir(parents=True, exist_ok=True)
            weights.write_text(cell)
            log({"val/loss": 2.0}, step=1)
            log({"val/loss": 1.0}, step=2)
            log.summary({"val/loss": 1.0, "val/top1": 0.5})
            log.model(weights)
            log.artifact(weights)
    monkeypatch.delenv("SEESAY_TRACKING")
    shutil.copytree(empty_store, tmp_path / "mlruns")
    write_lock(tmp_path, "first")
    return Project(tmp_path)


def write_lock(root: Path, what: str) -> None:
    entries = "".join(f"  train_classifier@{cell}: {{cmd: {what}}}\n" for cell in ("mlp", "cnn", "gone"))
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{entries}")
