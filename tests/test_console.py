"""What a run of the pipeline prints: numbered stages, the time left, no noise; and the scores at its end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from seesay.console import (
    Progress,
    changed_sources,
    moved_scores,
    run_dvc,
    score_table,
    signals_forwarded,
)
from seesay.core.paths import Paths
from seesay.params.datasets import ImageFolderSource
from seesay.report.results import Results
from seesay.sources.fetch import fetch_image_source

STAGES = ["check", "train_classifier@mlp", "evaluate_classifier@mlp", "report"]


def shown(
    capsys: pytest.CaptureFixture[str],
    *lines: str,
    brief: bool = True,
    has_remote: bool = False,
    seconds: dict[str, float] | None = None,
    stages: list[str] = STAGES,
) -> str:
    progress = Progress(stages, seconds or {}, has_remote=has_remote, brief=brief)
    for line in lines:
        progress.show(line)
    return capsys.readouterr().out


def test_stages_are_numbered_and_dvcs_own_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(
        capsys,
        "Stage 'check' didn't change, skipping",
        "WARNING: 'models/scratch' is empty.",
        "Running stage 'train_classifier@mlp':",
        "> python stages/train_classifier.py",
        "epoch 1/2: train/loss=2.3",
        "epoch 2/2: train/loss=1.9",
        "WARNING: 'models/scratch' is empty.",
        "Updating lock file 'dvc.lock'",
        "",
        "Stage 'evaluate_classifier@mlp' is cached - skipping run, checking out outputs",
        "Running stage 'report':",
        "something that a stage says",
        "To track the changes with git, run:",
        "\tgit add dvc.lock",
        "Use `dvc push` to send your updates to remote storage.",
    )
    assert output.splitlines() == [
        "[2/4] train_classifier@mlp",
        "epoch 2/2: train/loss=1.9",
        "[3/4] evaluate_classifier@mlp: restored from DVC's cache",
        "[4/4] report",
        "something that a stage says",
    ]


def test_advice_to_push_stays_where_there_is_a_remote(capsys: pytest.CaptureFixture[str]) -> None:
    advice = "Use `dvc push` to send your updates to remote storage."
    assert shown(capsys, advice, has_remote=True) == f"{advice}\n"
    assert shown(capsys, "epoch 1/2: a", "epoch 2/2: b", brief=False) == "epoch 1/2: a\nepoch 2/2: b\n"


def test_the_time_left_is_that_of_the_last_run(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = dict(zip(STAGES, (1, 20, 300, 4), strict=True))
    output = shown(capsys, *(f"Running stage '{stage}':" for stage in STAGES), seconds=seconds)
    assert output.splitlines() == [
        "[1/4] check, at most 5 min left",
        "[2/4] train_classifier@mlp, at most 5 min left",
        "[3/4] evaluate_classifier@mlp, at most 5 min left",
        "[4/4] report, at most 4 s left",
    ]


def test_a_first_run_tells_the_time_left_once_trainings_have_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *(time for time in (10.0, 20.0, 30.0, 1030.0, 1430.0) for _ in range(2))])
    monkeypatch.setattr("seesay.console.time.monotonic", lambda: next(clock))
    trainings = [f"train_classifier@{name}" for name in "ab"]
    stages = ["check", "fetch_images@x", "prepare_images@x", *trainings, "report"]
    output = shown(capsys, *(f"Running stage '{stage}':" for stage in stages), stages=stages)
    assert output.splitlines() == [
        "[1/6] check",
        "[2/6] fetch_images@x",
        "[3/6] prepare_images@x",
        "[4/6] train_classifier@a",
        "[5/6] train_classifier@b, about 21 min left",  # 1,000 s, and 257 s for the report: the mean of four
        "[6/6] report, about 5 min left",
    ]


def test_errors_of_a_brief_run_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress([], {}, has_remote=False, brief=True)
    progress.show("seesay: error: params.yaml: wrong")
    progress.show("ERROR: failed to reproduce 'check'")
    done = capsys.readouterr()
    assert (done.out, len(done.err.splitlines())) == ("", 2)


def test_dvcs_options_are_passed_on_and_named_stages_get_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nno_scm = true\n")
    (tmp_path / "params.yaml").write_text("words: {a: 1, b: 2}\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  say:\n    foreach: ${words}\n    do: {cmd: echo, params: ['words.${key}']}\n"
    )
    assert run_dvc(tmp_path, ["--dry", "say@b"], brief=False).status == 0
    assert capsys.readouterr().out == "- say@b\n> echo\n"
    progress = run_dvc(tmp_path, [], brief=True)
    assert (progress.status, progress.num_run, progress.total) == (0, 2, 2)
    assert capsys.readouterr().out.splitlines() == ["[1/2] say@a", "> echo", "[2/2] say@b", "> echo"]


def results(*, top1: float, cider: float | None) -> Results:
    classifier = {"cell": "mlp", "dataset": "scenes10", "architecture": "mlp", "test/top1": top1}
    weak = {**classifier, "cell": "weak", "test/top1": 0.2}
    captions = {"test": cider, "floor_nearest": 1.3, "floor_constant": 0.6, "test_shuffled": 0.3}
    return Results(
        classification=[weak, classifier, {"cell": "chance", "dataset": "scenes10", "test/top1": 0.1}],
        autoencoders=[{"cell": "conv", "test/psnr": 22.5, "test/mean_image_psnr": 12.0}],
        captions=[{"cell": "lstm", "set": name, "cider_d": value} for name, value in captions.items()],
        datasets=[],
    )


def test_the_table_of_scores_has_six_lines_with_what_is_beside_each() -> None:
    table = score_table(results(top1=0.93, cider=1.5))
    assert [line.split() for line in table.splitlines()[1:3]] == [
        ["top-1", "mlp", "93", "%", "10", "%,", "chance"],
        ["PSNR", "conv", "22.50", "dB", "12.00", "dB,", "mean", "image"],
    ]
    assert len(table.splitlines()) == 6
    assert "1.3, caption of the nearest training image" in table
    assert len(score_table(results(top1=0.93, cider=None)).splitlines()) == 3


def test_what_moved_is_shown_with_its_old_value() -> None:
    before, after = results(top1=0.93, cider=1.5), results(top1=0.95, cider=1.25)
    assert moved_scores(before, before) == ""
    assert moved_scores(before, after).splitlines() == [
        "moved: mlp top-1 95 % from 93 % (+2 points)",
        "moved: lstm CIDEr-D 1.25 from 1.5 (-0.25)",
    ]


def test_changed_photos_are_noted_with_the_command_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos/1.png")
    source = ImageFolderSource(kind="image_folder", path="photos")
    params: Any = SimpleNamespace(image_sources={"mine": source}, caption_sources={})
    fetch_image_source(source, Paths(tmp_path).raw_images("mine"), mirror=None, scratch=tmp_path, root=tmp_path)
    assert list(changed_sources(params, tmp_path)) == []
    Image.new("RGB", (4, 4)).save(tmp_path / "photos/2.png")
    (note,) = changed_sources(params, tmp_path)
    assert note.endswith("photos has changed since it was fetched: `dvc repro -f fetch_images@mine` reads it again")


def test_a_signal_while_a_process_starts_reaches_it() -> None:
    with signals_forwarded() as signals:
        signal.raise_signal(signal.SIGINT)
        with subprocess.Popen(["sleep", "60"], process_group=0) as process:
            signals.add_group(process.pid)
    assert signals.received == [signal.SIGINT]
    assert process.returncode == -signal.SIGINT


def test_stages_known_to_be_unchanged_count_as_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"a": 36000.0, "b": 36000.0, "c": 60.0}
    progress = Progress(["a", "b", "c"], seconds, has_remote=False, brief=True, num_jobs=2)
    progress.skip(["a", "b"])
    progress.show("Running stage 'c':", of="c")
    assert capsys.readouterr().out == "[3/3] c, at most 30 s left\n"
