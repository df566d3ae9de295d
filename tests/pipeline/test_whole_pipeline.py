"""The whole pipeline on generated data: byte-identical results, and MLflow runs that survive deletion of the store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from seesay.report.rules import STAGES


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[..., Any]) -> Any:
    workspace = new_workspace(tracking=True)
    first = workspace.repro()
    assert first.status == 0, first.output
    return workspace


def counts(workspace: Any) -> dict[str, int]:
    with sqlite3.connect(workspace.root / "mlruns/mlflow.db") as database:
        return {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("runs", "metrics", "params", "tags", "inputs", "model_versions")
        }


def metric_history(workspace: Any, run_name: str, key: str) -> list[tuple[float, int, int]]:
    with sqlite3.connect(workspace.root / "mlruns/mlflow.db") as database:
        return database.execute(
            "SELECT value, step, timestamp FROM metrics JOIN runs USING (run_uuid)"
            " WHERE name = ? AND key = ? ORDER BY step",
            (run_name, key),
        ).fetchall()


def test_two_runs_from_scratch_are_identical_to_the_byte(workspace: Any, finished: Any) -> None:
    other = finished.workspace
    for pattern in (
        "metrics/**/*.*",
        "models/**/*.pt",
        "data/predictions/**/*.*",
        "reports/results.json",
        "reports/figures/**/*.*",
    ):
        mine, theirs = workspace.files(pattern), other.files(pattern)
        assert mine, pattern
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if mine[name] != theirs[name]] == []


def test_outputs_that_others_depend_on_hold_no_hosts_or_absolute_paths(workspace: Any) -> None:
    import platform

    for name, content in (workspace.files("metrics/**/*.*") | workspace.files("data/**/*.json")).items():
        assert str(workspace.root).encode() not in content, name
        assert f'"{platform.node()}"'.encode() not in content, name


def test_the_notebook_runs_from_top_to_bottom(workspace: Any, tmp_path: Path) -> None:
    notebook = json.loads((Path(__file__).parents[2] / "examples/tour.ipynb").read_text(encoding="utf-8"))
    (tmp_path / "examples").mkdir()
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work/demo").symlink_to(workspace.root)
    (tmp_path / "docs").symlink_to(Path(__file__).parents[2] / "docs")
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join(code)], cwd=tmp_path / "examples", env={**os.environ, "MPLBACKEND": "Agg"},
        text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_sync_restores_every_run_after_the_store_is_deleted(workspace: Any) -> None:
    """`sync` restores them; a second sync changes nothing."""
    assert workspace.command("seesay.cli", "sync").returncode == 0
    before, history = counts(workspace), metric_history(workspace, "train mlp", "train/loss")
    assert len(history) == 2
    shutil.rmtree(workspace.root / "mlruns")
    assert workspace.repro().ran == set()
    restored = workspace.command("seesay.cli", "sync")
    assert restored.returncode == 0, restored.stdout
    after = counts(workspace)
    assert after["runs"] == before["runs"]
    assert after["metrics"] == before["metrics"]
    assert metric_history(workspace, "train mlp", "train/loss") == history
    assert workspace.command("seesay.cli", "sync").returncode == 0
    assert counts(workspace) == after


def test_every_metric_of_a_stage_may_be_named_by_a_gate(workspace: Any) -> None:
    """And `seesay check` knows no stage that measures nothing."""
    for root in (workspace.root, Path(__file__).resolve().parents[2]):
        found = {path.parent.name for path in root.glob("metrics/*/*.json")}
        assert found == STAGES.keys() - {"finetune_encoder"}  # neither has such an experiment
        for path in root.glob("metrics/*/*.json"):
            for key in json.loads(path.read_text()):
                assert any(fnmatchcase(key, known) for known in STAGES[path.parent.name].keys), f"{path}: {key}"


def test_one_search_of_mlflow_ranks_test_scores_by_a_parameter(workspace: Any) -> None:
    """The run with the test score has the parameters of the training."""
    with sqlite3.connect(workspace.root / "mlruns/mlflow.db") as database:
        found = database.execute(
            "SELECT runs.name, params.value FROM runs JOIN params USING (run_uuid)"
            " JOIN latest_metrics AS m USING (run_uuid)"
            " WHERE params.key = 'training.optimizer.learning_rate' AND m.key IN ('test/top1', 'test/cider_d')"
        ).fetchall()
    assert {name for name, _ in found} == {
        "evaluate mlp", "evaluate plain_cnn", "score attention_scenes", "score reward_scenes"
    }  # fmt: skip
    assert {value for _, value in found} == {"0.001"}


def test_the_page_and_the_verdict_are_there(workspace: Any) -> None:
    assert "<html" in (workspace.root / "reports/index.html").read_text()
    assert json.loads((workspace.root / "reports/gate.json").read_text())["passed"] is True
    assert json.loads((workspace.root / "data/release.json").read_text())


def test_a_failed_gate_fails_the_pipeline_and_nothing_is_released(workspace: Any) -> None:
    gates = workspace.root / "gates.yaml"
    sound = gates.read_text()
    gates.write_text('baseline: null\nrules:\n  - {metric: "evaluate_classifier/mlp:test/top1", min: 1.01}\n')
    released = (workspace.root / "data/release.json").read_bytes()
    done = workspace.repro()
    assert done.status != 0
    assert "register" not in done.ran
    assert json.loads((workspace.root / "reports/gate.json").read_text())["passed"] is False
    gates.write_text(sound)
    assert workspace.repro().status == 0
    assert (workspace.root / "data/release.json").read_bytes() == released


def test_a_wrong_parameter_ends_in_one_line_and_leaves_the_results_alone(workspace: Any) -> None:
    before = workspace.files("models/**/*.pt")
    workspace.change("classifiers.mlp.architecture", {"name": "vgg"})
    unknown = workspace.repro()
    assert unknown.status != 0
    assert unknown.ran == {"check"}
    assert "classifiers.mlp.architecture.name: got 'vgg': expected one of" in unknown.output
    workspace.change("classifiers.mlp.architecture", {"name": "mlp", "hidden_sizes": [8], "width": 3})
    done = workspace.repro()
    assert done.status != 0
    assert "classifiers.mlp.architecture.width: unknown key; allowed here: dropout, hidden_sizes" in done.output
    assert "Traceback" not in unknown.output + done.output
    workspace.change("classifiers.mlp.architecture", {"name": "mlp", "hidden_sizes": [8]})
    assert workspace.repro().status == 0
    assert workspace.files("models/**/*.pt") == before
