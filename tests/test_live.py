"""The table of running stages: epochs, times, and lines that stay above it."""

import io

import pytest
from rich.console import Console

from seesay.console import Progress
from seesay.jobs import LiveTable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("seesay.jobs.time.monotonic", lambda: now[0])
    return now


def rows(table: LiveTable) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=120)
    console.print(table.table())
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_the_time_left_comes_from_epochs_else_from_the_last_run(clock: list[float]) -> None:
    table = LiveTable({"report": 50.0})
    for stage in ("train_classifier@mlp", "report", "gate"):
        table.start(stage)
    clock[0] += 20
    table.note("train_classifier@mlp", "epoch 2/10: train/loss=1.2")
    clock[0] += 4
    # Two epochs took 20 s, so eight take 80 s, of which 4 s are over; the report took 50 s the last time.
    assert rows(table) == [
        ["running", "epoch", "for", "left"],
        ["train_classifier@mlp", "2/10", "24", "s", "76", "s"],
        ["report", "24", "s", "26", "s"],
        ["gate", "24", "s"],
    ]
    table.finish("report")
    clock[0] += 200
    assert rows(table)[1:] == [
        ["train_classifier@mlp", "2/10", "4", "min", "0", "s"],
        ["gate", "4", "min"],
    ]


def test_the_last_epoch_and_errors_of_a_stage_stay_above_the_table() -> None:
    screen = io.StringIO()
    progress = Progress(["train@a", "train@b"], {}, has_remote=False, brief=True, num_jobs=2)
    with LiveTable({}, console=Console(file=screen, force_terminal=True, width=80)) as table:
        progress.table = table
        for stage in ("train@a", "train@b"):
            progress.show(f"Running stage '{stage}':", of=stage)
        progress.show("epoch 1/2: train/loss=3", of="train@a")
        progress.show("epoch 2/2: train/loss=2", of="train@a")
        progress.show("seesay: error: [a] is wrong", of="train@b")
        progress.finish("train@a")
        assert [row[0] for row in rows(table)] == ["running", "train@b"]
    said = screen.getvalue()
    assert "train@a: epoch 2/2: train/loss=2" in said
    assert "epoch 1/2" not in said
    assert "train@b: seesay: error: [a] is wrong" in said
