"""Stages on other machines: clones that exchange data by a DVC remote give the results of one machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from tests.fixtures.files import run_dvc

from seesay.cli import main
from seesay.cluster import Clone, Dispatcher, Outcome, accept, commit_for_workers, resources_of, work
from seesay.core import forkserver
from seesay.core.errors import InputError
from seesay.jobs import run_side_by_side
from seesay.params.training import Runtime

PIPELINE = """
stages:
  fetch: {cmd: python stage.py fetch, deps: [stage.py], outs: [data]}
  train:
    foreach: {a: {}, b: {}}
    do:
      cmd: python stage.py train-${key}
      deps: [data, stage.py]
      params: ['rates.${key}']
      outs: ['models/${key}']
      metrics: ['metrics/train/${key}.json': {cache: false}]
  evaluate:
    foreach: {a: {}, b: {}}
    do:
      cmd: python stage.py evaluate-${key}
      deps: ['models/${key}', 'metrics/train/${key}.json', stage.py]
      metrics: ['metrics/evaluate/${key}.json': {cache: false}]
  compare: {cmd: python stage.py compare, deps: [metrics/evaluate, stage.py], outs: [table]}
"""

STAGE = """
import json, os, sys
from pathlib import Path
from ruamel.yaml import YAML

name = sys.argv[1]
with open(os.environ["RAN"], "a") as file:
    file.write(name + "\\n")
kind, _, key = name.partition("-")
if kind == "fetch":
    Path("data").mkdir(exist_ok=True)
    Path("data/x").write_text("data")
elif kind == "train":
    rate = YAML(typ="safe").load(Path("params.yaml").read_text())["rates"][key]
    if rate < 0:
        sys.exit("a negative rate")
    Path("models", key).mkdir(parents=True, exist_ok=True)
    Path("models", key, "weights").write_text(Path("data/x").read_text() + str(rate))
    Path("metrics/train").mkdir(parents=True, exist_ok=True)
    Path(f"metrics/train/{key}.json").write_text(json.dumps({"loss": rate}))
elif kind == "evaluate":
    loss = json.loads(Path(f"metrics/train/{key}.json").read_text())["loss"]
    Path("metrics/evaluate").mkdir(parents=True, exist_ok=True)
    top1 = loss + len(Path("models", key, "weights").read_text())
    Path(f"metrics/evaluate/{key}.json").write_text(json.dumps({"top1": top1}))
else:
    Path("table").write_text("".join(path.read_text() for path in sorted(Path("metrics/evaluate").iterdir())))
"""


def commit(root: Path) -> None:
    for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=root, check=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setattr(forkserver, "LIBRARIES", ["ruamel.yaml"])  # what the stages import
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)  # where `seesay repro` runs
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "stage.py").write_text(STAGE)
    (root / ".gitignore").write_text("/data\n/models\n/table\n__pycache__\n")
    (root / "params.yaml").write_text("rates: {a: 0.5, b: 0.25}\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    run_dvc(root, "init", "-q")
    run_dvc(root, "config", "core.analytics", "false")
    run_dvc(root, "remote", "add", "shared", str(tmp_path / "remote"))
    commit(root)
    return root


def ran(root: Path) -> list[str]:
    return (root.parent / "ran").read_text().split()


def outputs(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("data", "models", "metrics", "table")
        for path in ([root / folder] if (root / folder).is_file() else sorted((root / folder).rglob("*")))
        if path.is_file() and path.name != ".gitignore"
    }


def read_lock(root: Path) -> Any:
    return YAML(typ="safe").load((root / "dvc.lock").read_text())


def run(root: Path, machines: list[Clone]) -> int:
    dispatcher = Dispatcher(root, remote="shared")
    return run_side_by_side(root, [], [], num_jobs=1, dispatcher=dispatcher, machines=machines).status


@pytest.mark.parametrize(
    ("runtime", "has_gpus", "needed"),
    [
        ({"num_threads": 4, "processes": 2}, False, ("CPU", 8)),
        ({"num_threads": "auto", "processes": 1}, False, ("CPU", 1)),
        ({"num_threads": 4, "processes": 2}, True, ("GPU", 2)),
    ],
)
def test_a_stage_takes_what_its_threads_and_processes_need(runtime, has_gpus, needed):
    settings = {"device": "auto", "precision": "auto", "deterministic": True, "compile": False, **runtime}
    assert resources_of(Runtime(**settings), has_gpus=has_gpus) == needed


def test_two_machines_give_the_bytes_of_one(project: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    subprocess.run(["git", "clone", "-q", str(project), str(alone)], check=True)
    run_dvc(alone, "repro", "-q")
    (tmp_path / "ran").unlink()
    head = commit_for_workers(project)
    assert run(project, [Clone(str(project), head, remote="shared") for _ in range(2)]) == 0
    assert sorted(ran(project)) == ["compare", "evaluate-a", "evaluate-b", "fetch", "train-a", "train-b"]
    assert outputs(project) == outputs(alone)
    assert read_lock(project) == read_lock(alone)
    assert Repo(str(project)).status() == {}
    assert not (project / "metrics/train/a.json").is_symlink()


def test_a_stage_that_fails_there_stops_only_what_depends_on_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("rates: {a: -1.0, b: 0.25}\n")
    commit(project)
    assert run(project, [Clone(str(project), commit_for_workers(project), remote="shared")]) == 1
    said = capsys.readouterr()
    assert "a negative rate" in said.out + said.err
    assert "train@a failed" in said.err
    assert sorted(ran(project)) == ["evaluate-b", "fetch", "train-a", "train-b"]


def test_a_stage_is_not_run_again_where_nothing_changed(project: Path) -> None:
    machines = [Clone(str(project), commit_for_workers(project), remote="shared")]
    assert run(project, machines) == 0
    before = ran(project)
    assert run(project, machines) == 0
    assert ran(project) == before


class Lost:
    """A machine that cannot be reached."""

    def run(self, address: str, lock: str) -> Outcome:
        raise ConnectionError("no route to host")


def test_an_unreachable_machine_fails_its_stage_with_one_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dispatcher = Dispatcher(project, remote="shared")
    assert run_side_by_side(project, [], [], num_jobs=1, dispatcher=dispatcher, machines=[Lost()]).status == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("seesay: error: train@a: no route to host") == 1
    assert ran(project) == ["fetch"]


def test_uncommitted_changes_of_what_decides_results_are_refused(project: Path) -> None:
    (project / "README.md").write_text("of no consequence\n")
    commit_for_workers(project)
    (project / "params.yaml").write_text("rates: {a: 0.5, b: 0.75}\n")
    with pytest.raises(InputError, match=r"^params.yaml: not committed: expected a clean commit"):
        commit_for_workers(project)


def test_work_and_accept_by_hand(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an array of jobs does it: each has a clone with dvc.lock, and hands back a file."""
    run_dvc(project, "repro", "-q", "fetch")
    run_dvc(project, "push", "-q", "-r", "shared")
    commit(project)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    monkeypatch.chdir(clone)
    with pytest.raises(SystemExit) as ended:
        main(["work", "train@a", "evaluate@a", "--remote", "shared", "--result", str(tmp_path / "a.json")])
    assert ended.value.code == 0
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as ended:
        main(["accept", str(tmp_path / "a.json"), "--remote", "shared"])
    assert ended.value.code == 0
    assert outputs(project) == outputs(clone)
    assert "train@a" not in Repo(str(project)).status()


def test_what_was_made_from_other_inputs_is_not_accepted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dvc(project, "repro", "-q", "fetch")
    entry = work(project, "train@a", remote="shared")
    (project / "params.yaml").write_text("rates: {a: 0.75, b: 0.25}\n")
    before = (project / "dvc.lock").read_bytes()
    with pytest.raises(InputError, match="train@a: the worker's inputs are not those of this workspace"):
        accept(project, "train@a", entry, remote="shared")
    assert (project / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("entry", [{"cmd": "x", "outz": []}, {"cmd": "python stage.py train-a", "outs": []}])
def test_what_dvc_cannot_read_leaves_the_lock_as_it_was(project: Path, entry: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        accept(project, "train@a", entry, remote="shared")
    assert not (project / "dvc.lock").exists()
    run_dvc(project, "repro", "-q", "fetch")
    before = (project / "dvc.lock").read_bytes()
    with pytest.raises(InputError):
        accept(project, "train@a", entry, remote="shared")
    assert (project / "dvc.lock").read_bytes() == before


def test_a_result_file_of_another_kind_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "a.json").write_text('["train@a"]')
    with pytest.raises(SystemExit) as ended:
        main(["accept", "a.json", "--remote", "shared"])
    assert ended.value.code == 1
    assert "a.json: (top level): got ['train@a']" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "says"), [("train@c", "no such stage"), ("compare", "an instance of a stage")])
def test_a_stage_that_cannot_run_elsewhere_is_named(project: Path, stage: str, says: str) -> None:
    with pytest.raises(InputError, match=f"{stage}.*{says}"):
        work(project, stage, remote="shared")


def test_an_input_that_the_remote_lacks_is_named(project: Path) -> None:
    run_dvc(project, "repro", "-q", "fetch")
    commit(project)
    with pytest.raises(InputError, match=r"data: the DVC remote shared lacks it"):
        raise_error(Clone(str(project), commit_for_workers(project), remote="shared"), project)


def raise_error(clone: Clone, project: Path) -> None:
    outcome = clone.run("train@a", (project / "dvc.lock").read_text())
    assert outcome.status != 0
    assert outcome.entry is None
    raise InputError(outcome.output)
