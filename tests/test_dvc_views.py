"""DVC's own views of the results: plots of a training, and a table of experiments that can be read."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seesay.plotting.table import with_equal_keys

ROOT = Path(__file__).resolve().parents[1]


def dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_training_is_drawn_with_loss_and_score_of_train_and_val() -> None:
    chart = json.loads(dvc("plots", "show", "--show-vega", "metrics/train_classifier/mlp.history.csv"))
    loss, score = (panel["transform"][0]["fold"] for panel in chart["hconcat"])
    assert loss == ["train/loss", "val/loss"]
    assert {"train/top1", "val/top1"} <= set(score)
    assert {*loss, "train/top1", "val/top1"} <= set(chart["data"]["values"][0])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_documented_table_of_experiments_has_at_most_60_columns() -> None:
    text = (ROOT / "docs/mlflow.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\$ dvc (exp show .*)", text, re.MULTILINE)
    columns = dvc(*shlex.split(command), "--csv").splitlines()[0].split(",")
    assert 30 < len(columns) <= 60
    assert "metrics/evaluate_classifier/mlp.json:test/top1" in columns


def test_rows_to_plot_have_equal_keys() -> None:
    assert with_equal_keys([{"cell": "a", "x": 1}, {"cell": "b", "y": 2}]) == [
        {"cell": "a", "x": 1, "y": None},
        {"cell": "b", "x": None, "y": 2},
    ]


def test_what_dvc_plots_writes_is_not_committed() -> None:
    assert "/dvc_plots/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
