"""Who writes a workspace's ledger, and that clones on one server keep apart."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.tracking.conftest import Project, write_lock

from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.tracking import ledger
from seesay.tracking.ledger import workspace_identity
from seesay.tracking.recorder import record_stage
from seesay.tracking.sync import sync

STAGE = """
import sys, time
from pathlib import Path
from seesay.tracking.recorder import record_stage

cell = sys.argv[1]
with record_stage(Path(), "train_classifier", cell, params={}) as log:
    log({"train/loss": 1.0}, step=1)
    Path("started").write_text(cell)
    while Path("hold").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    weights = Path("models") / f"{cell}.txt"
    weights.parent.mkdir(exist_ok=True)
    weights.write_text(cell)
    log.model(weights)
    log.summary({"val/top1": 0.5})
"""
PIPELINE = """
stages:
  train_classifier:
    foreach: {a: 1, b: 2, c: 3}
    do:
      cmd: python stage.py ${key}
      deps: [stage.py]
      outs: ['models/${key}.txt', 'runs/train_classifier/${key}.json']
      metrics: ['metrics/train_classifier/${key}.json': {cache: false}]
      plots: ['metrics/train_classifier/${key}.history.csv': {cache: false}]
"""
REPRO = """
import subprocess, sys
from pathlib import Path
from seesay.tracking import ledger
from seesay.tracking.sync import sync

ledger.WAIT_SECONDS = 0.2
with ledger.own_ledger(Path()):
    status = subprocess.call([sys.executable, "-m", "dvc", "repro"])
    print(sync(Path()))
sys.exit(status)
"""
"""`seesay repro` without what this small pipeline lacks: params.yaml and reports."""


def python(root: Path, code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def pipeline(tmp_path: Path, empty_store: Path) -> Project:
    project = Project(tmp_path / "project")
    project.root.mkdir()
    (project.root / "stage.py").write_text(STAGE)
    (project.root / "dvc.yaml").write_text(PIPELINE)
    (project.root / ".dvcignore").write_text(".work\nmlruns\n")
    shutil.copytree(empty_store, project.root / "mlruns")
    project.run("dvc", "init", "-q", "--no-scm")
    return project


def states(report: Any) -> dict[str, str]:
    return {line.address: line.state for line in report.lines}


ALL_RAN = {f"train_classifier@{cell}": "ran" for cell in "abc"}


def test_a_sync_beside_a_repro_names_it_and_changes_nothing(pipeline, monkeypatch):
    monkeypatch.setattr(ledger, "WAIT_SECONDS", 0.2)
    (pipeline.root / "hold").touch()
    running = python(pipeline.root, REPRO)
    wait_for((pipeline.root / "started").exists)
    with pytest.raises(InputError, match=rf"`-c` \(process {running.pid}\) is running in this workspace"):
        sync(pipeline.root)
    second = python(pipeline.root, REPRO)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 1
    assert f"(process {running.pid}) is running in this workspace" in output
    (pipeline.root / "hold").unlink()
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 0, output
    assert "3 ran" in output.splitlines()[-1]
    report = sync(pipeline.root)
    assert (report.pipeline, states(report)) == ("unchanged", ALL_RAN)
    assert len(pipeline.runs("pipeline")) == 1


def test_a_sync_beside_a_plain_dvc_repro_names_it_too(pipeline):
    (pipeline.root / "hold").touch()
    running = python(pipeline.root, "from dvc.cli import main; main(['repro', '-q'])")
    wait_for((pipeline.root / "started").exists)
    with pytest.raises(InputError, match=rf"\(process {running.pid}\) is running in this workspace"):
        sync(pipeline.root)
    (pipeline.root / "hold").unlink()
    running.communicate(timeout=240)
    report = sync(pipeline.root)
    assert (report.pipeline, states(report)) == ("adopted", ALL_RAN)
    assert not sync(pipeline.root).changed


def kill_and_rerun(project: Project, seconds: float) -> dict[str, str]:
    """Kill an execution with all its processes after a time, run the pipeline again, and return what the sync says."""
    running = python(project.root, REPRO)
    time.sleep(seconds)
    everything = [*psutil.Process(running.pid).children(recursive=True), psutil.Process(running.pid)]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    running.communicate(timeout=120)
    finished = set(re.findall(r"train_classifier@(\w)", read_or_empty(project.root / "dvc.lock")))
    again = python(project.root, REPRO)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    for cell in finished:
        assert f"Running stage 'train_classifier@{cell}'" not in output
    content = project.content()
    report = sync(project.root)
    assert not report.changed
    assert project.content() == content
    assert [(project.root / "models" / f"{cell}.txt").read_text() for cell in "abc"] == ["a", "b", "c"]
    assert "RUNNING" not in {run.info.status for run in project.runs()}
    expected = {f"train_classifier@{c}": "unchanged" if c in finished else "ran" for c in "abc"}
    if len(finished) == 3:
        assert set(states(report).values()) == {"ran"}
    else:
        assert states(report) == expected
    return states(report)


def read_or_empty(path: Path) -> str:
    return path.read_text() if path.exists() else ""


ROUNDS = int(os.environ.get("SEESAY_FAULT_ROUNDS", "1"))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_ledger_is_right_after_a_killed_repro_ran_again(pipeline, number):
    """SEESAY_FAULT_ROUNDS=20 kills at 20 random times."""
    kill_and_rerun(pipeline, 4.0 if ROUNDS == 1 else random.uniform(0.5, 10.0))


def clone_of(workspace: Project, folder: Path) -> Project:
    """A clone by git, which has neither .work/ nor mlruns/, with outputs that are its own."""
    shutil.copytree(workspace.root, folder, ignore=shutil.ignore_patterns(".work", "mlruns", "runs", "metrics"))
    for cell in ("mlp", "cnn"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SEESAY_TRACKING", "off")
            with record_stage(folder, "train_classifier", cell, params={"rate": 0.5}) as log:
                log.summary({"val/top1": 0.75})
    return Project(folder)


def test_clones_that_share_a_store_keep_their_own_ledgers(workspace, tmp_path, monkeypatch):
    other = clone_of(workspace, tmp_path / "clone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    monkeypatch.chdir(tmp_path)
    first, second = sync(workspace.root), sync(other.root)
    assert (first.pipeline, second.pipeline) == ("created", "created")
    write_lock(other.root, "another")
    sync(other.root)
    content = workspace.content()
    for root, made in ((workspace.root, first), (workspace.root, first)):
        again = sync(root)
        assert not again.changed
        assert again.pipeline_run_id == made.pipeline_run_id
    assert not sync(other.root).changed
    assert workspace.content() == content


def test_an_identity_survives_a_move_and_is_not_copied(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name / ".dvc").mkdir(parents=True)
    first, second = workspace_identity(tmp_path / "first"), workspace_identity(tmp_path / "second")
    assert first != second
    (tmp_path / "first").rename(tmp_path / "moved")
    assert workspace_identity(tmp_path / "moved") == first
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    assert workspace_identity(tmp_path / "copy") not in (first, second)
    assert workspace_identity(tmp_path / "moved") == first
    assert workspace_identity(tmp_path / "moved/.work/demo") == f"{first}/.work/demo"


def test_what_lies_under_work_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    scratch = Paths(tmp_path).scratch
    scratch.mkdir(mode=0o755)
    with record_stage(tmp_path, "report", params={}):
        assert scratch.stat().st_mode & 0o777 == 0o700


def test_a_stale_entry_of_dvc_does_not_hold_a_sync_up(workspace):
    """After kill -9, DVC's list still names the killed process; its number may by now be another process's."""
    folder = workspace.root / ".dvc/tmp"
    folder.mkdir(parents=True)
    entry = f'{{"pid": {os.getpid()}, "cmd": "dvc repro"}}'
    (folder / "rwlock").write_text(f'{{"write": {{"/x": {entry}}}, "read": {{}}}}')
    with pytest.raises(InputError, match=rf"`dvc repro` \(process {os.getpid()}\)"):
        sync(workspace.root)
    os.utime(folder / "rwlock", (1, 1))  # written before this process began
    assert sync(workspace.root).problem is None
