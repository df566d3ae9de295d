"""A sweep over a parameter by DVC's queue, as docs/scaling.md describes it."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from tests.tracking.conftest import Project, start_project

from seesay.tracking.records import read_record
from seesay.tracking.sync import sync

STAGE = '''
"""A training that is best on val at a learning rate of 0.3 and on test at 0.5; `register` would release a model."""
import sys
from pathlib import Path

from ruamel.yaml import YAML

from seesay.core.files import write_json
from seesay.tracking.recorder import record_stage
from seesay.tracking.registry import register_models

stage, cell = sys.argv[1], sys.argv[2]
rate = YAML(typ="safe").load(Path("params.yaml").read_text())["models"][cell]["learning_rate"]
with record_stage(Path(), stage, cell, params={"learning_rate": rate}) as log:
    log({"val/loss": abs(rate - 0.3)}, step=1)
    weights = Path("models") / f"{stage}-{cell}.txt"
    weights.parent.mkdir(exist_ok=True)
    weights.write_text(str(rate))
    log.model(weights)
    log.summary({"val/loss": abs(rate - 0.3), "test/top1": 1 - abs(rate - 0.5)})
register_models(Path(), [{"name": "never"}])
'''

CELL = "train_classifier@mlp"
LOSS = "metrics/train_classifier/mlp.json:val/loss"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = start_project(tmp_path_factory.mktemp("swept"), stage=STAGE)
    (project.root / ".gitignore").write_text("/mlruns\n/.work\n")  # metrics are in git: experiments carry them
    project.write_rate(0.1)
    project.run("dvc", "repro", "-q")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "before the sweep")
    project.run(
        "dvc", "exp", "run", "--queue", "--name", "rate", "-S", "models.mlp.learning_rate=choice(0.5,0.25)", CELL
    )
    project.run("dvc", "exp", "run", "--run-all")
    return project


def trainings(project: Project) -> list[Any]:
    return [run for run in project.runs("classification") if run.data.tags["dvc.stage"] == CELL]


def test_the_trials_of_a_sweep_are_seen_by_name_and_release_nothing(swept):
    trials = {run.data.tags["dvc.exp_name"]: run for run in swept.runs("pipeline") if "dvc.exp_name" in run.data.tags}
    assert {name: run.info.run_name for name, run in trials.items()} == {"rate-1": "rate-1", "rate-2": "rate-2"}
    trained = {run.data.tags.get("dvc.exp_name"): run for run in trainings(swept)}
    assert set(trained) == {None, "rate-1", "rate-2"}
    for name in trials:
        assert trained[name].data.tags["mlflow.parentRunId"] == trials[name].info.run_id
        assert trained[name].info.status == "FINISHED"
    assert {run.data.params["learning_rate"] for run in trained.values()} == {"0.1", "0.25", "0.5"}
    assert swept.client.search_registered_models() == []
    experiments = [one.experiment_id for one in swept.client.search_experiments()]
    found = swept.client.search_runs(experiments, "tags.`dvc.exp_name` LIKE 'rate-%'")
    assert sorted(run.info.run_name for run in found) == ["rate-1", "rate-2", "train mlp", "train mlp"]


def test_the_best_trial_by_val_is_applied_with_its_run(swept):
    shown = ["--csv", "--drop", "[a-z0-9_]*[/.:].*", "--keep", ".*val/loss$|.*mlp.learning_rate"]
    shown += ["--sort-by", LOSS, "--sort-order", "asc"]
    rows = list(csv.DictReader(swept.run("dvc", "exp", "show", *shown).stdout.splitlines()))
    trials = [row for row in rows if row["Experiment"]]
    assert [row["models.mlp.learning_rate"] for row in trials] == ["0.25", "0.5"]
    assert not any("test" in column for column in rows[0])
    best = next(run for run in trainings(swept) if run.data.params["learning_rate"] == "0.25")
    assert trials[0]["Experiment"] == best.data.tags["dvc.exp_name"]
    swept.run("dvc", "exp", "apply", trials[0]["Experiment"])
    assert "learning_rate: 0.25" in (swept.root / "params.yaml").read_text()
    assert read_record(swept.root / "runs/train_classifier/mlp.json").run_id == best.info.run_id
    line = next(line for line in sync(swept.root).lines if line.address == CELL)
    assert (line.state, line.run_id) == ("restored", best.info.run_id)
    again = swept.run("dvc", "repro", "evaluate_classifier@mlp").stdout
    assert f"Stage '{CELL}' didn't change, skipping" in again
    assert "Running stage 'evaluate_classifier@mlp'" in again
