"""What sync makes of records and of a store that knows all, some or none of them; DVC's files are written by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from tests.tracking.conftest import write_lock

from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.tracking.ledger import PipelineRun
from seesay.tracking.mlflow_runs import end_run, log_artifacts, start_run
from seesay.tracking.records import ArtifactFile, read_record, write_record
from seesay.tracking.store import NOTE, experiment_id, locate_store
from seesay.tracking.sync import StageLine, _note, sync


def states(report: Any) -> dict[str, str]:
    return {line.address: line.state for line in report.lines}


def test_runs_that_mlflow_has_missed_are_replayed_once(workspace):
    report = sync(workspace.root)
    assert report.problem is None
    assert states(report) == {
        "train_classifier@mlp": "replayed",
        "train_classifier@cnn": "replayed",
        "report": "not run",
    }
    (pipeline,) = workspace.runs("demo-pipeline")
    runs = workspace.runs("demo-classification")
    assert {run.info.run_name for run in runs} == {"train mlp", "train cnn"}
    assert all(run.data.tags["mlflow.parentRunId"] == pipeline.info.run_id for run in runs)
    content = workspace.content()
    again = sync(workspace.root)
    assert not again.changed
    assert again.lines == report.lines
    assert workspace.content() == content


def test_a_replayed_run_keeps_its_steps_and_times(workspace):
    sync(workspace.root)
    record = read_record(workspace.root / "runs/train_classifier/mlp.json")
    run = next(run for run in workspace.runs("demo-classification") if run.info.run_name == "train mlp")
    points = sorted(workspace.client.get_metric_history(run.info.run_id, "val/loss"), key=lambda m: m.step)
    assert [(m.step, m.timestamp, m.value) for m in points] == [
        (1, record.history[0].time_ms, 2.0),
        (2, record.history[1].time_ms, 1.0),
    ]
    assert (run.info.start_time, run.info.end_time) == (record.started_ms, record.ended_ms)
    # The summary's val/loss is no third point of the curve.
    assert (run.data.metrics["final/val/loss"], run.data.metrics["val/top1"]) == (1.0, 0.5)
    assert run.data.tags["seesay.replayed"] == "true"
    assert [file.path for file in workspace.client.list_artifacts(run.info.run_id, "models")] == ["models/0.pt"]


def test_an_artifact_that_has_changed_since_is_not_passed_off_as_the_runs(workspace):
    Paths(workspace.root).classifier("mlp").write_text("trained again")
    sync(workspace.root)
    run = next(run for run in workspace.runs("demo-classification") if run.info.run_name == "train mlp")
    assert workspace.client.list_artifacts(run.info.run_id, "models") == []


def test_a_new_lock_gives_a_new_pipeline_run_that_links_the_same_runs(workspace):
    first = sync(workspace.root)
    write_lock(workspace.root, "second")
    second = sync(workspace.root)
    assert (first.pipeline, second.pipeline) == ("created", "created")
    assert second.num_replayed == 0
    assert states(second)["train_classifier@mlp"] == "unchanged"
    assert [line.run_id for line in first.lines] == [line.run_id for line in second.lines]


def test_a_run_that_broke_off_in_mlflow_is_completed_not_doubled(workspace):
    sync(workspace.root)
    client, run = workspace.client, workspace.runs("demo-classification")[0]
    client.set_terminated(run.info.run_id, status="KILLED")
    assert sync(workspace.root).num_replayed == 1
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
    assert len(workspace.runs("demo-classification")) == 2


@pytest.mark.parametrize("other", ["mlp", None])
def test_an_execution_for_which_mlflow_was_too_slow_has_not_failed(workspace, other):
    """The tracker closes a run as killed whose stage did not wait for it. A stage that did fail has no record."""
    client, store = workspace.client, locate_store(workspace.root)
    execution = PipelineRun(client, store, workspace.root / ".work", "slow")
    above = execution.begin_stage(workspace.root, started_ms=1, tags={})
    experiment = experiment_id(client, store, "demo-classification")
    for cell in ("cnn", other):
        record = read_record(workspace.root / f"runs/train_classifier/{cell or 'mlp'}.json")
        record = record if cell else replace(record, record_id="failed")
        run = start_run(client, experiment, record, parent=above, tags={})
        end_run(client, run, status="KILLED", ended_ms=2)
        execution.end_stage(failed=True, ended_ms=3)
    report = sync(workspace.root)
    assert (report.pipeline, report.pipeline_run_id, report.num_replayed) == ("adopted", above, 2)
    (pipeline,) = workspace.runs("demo-pipeline")
    assert (pipeline.info.status, pipeline.info.end_time) == ("FAILED" if other is None else "FINISHED", 3)
    assert not sync(workspace.root).changed


def test_a_run_that_a_person_has_deleted_stays_deleted(workspace):
    sync(workspace.root)
    workspace.client.delete_run(workspace.runs("demo-classification")[0].info.run_id)
    assert sync(workspace.root).num_replayed == 0
    assert len(workspace.runs("demo-classification")) == 1


def test_an_output_without_a_record_is_named(workspace):
    (workspace.root / "runs/train_classifier/cnn.json").unlink()
    assert states(sync(workspace.root))["train_classifier@cnn"] == "no record"


def test_the_pipeline_run_holds_the_lines_as_a_table_with_links(workspace):
    report = sync(workspace.root)
    note = workspace.client.get_run(report.pipeline_run_id).data.tags["mlflow.note.content"]
    line = report.lines[0]
    assert f"| train_classifier@mlp | replayed | [{line.run_id}](#/experiments/" in note
    assert {file.path for file in workspace.client.list_artifacts(report.pipeline_run_id)} == {
        "stages.json",
        "stages.md",
    }


def test_a_store_that_cannot_be_reached_is_a_problem_and_no_exception(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    report = sync(workspace.root)
    assert report.problem is not None
    assert not report.changed
    assert "not in step" in str(report)


def test_a_scratch_folder_that_cannot_be_made_is_not_an_exception(workspace):
    """It is reported as a problem."""
    shutil.rmtree(Paths(workspace.root).scratch)
    Paths(workspace.root).scratch.write_text("a file in its place")
    assert "FileExistsError" in str(sync(workspace.root).problem)


def test_a_record_survives_writing_and_reading(workspace):
    path = workspace.root / "runs/train_classifier/mlp.json"
    record = read_record(path)
    before = path.read_bytes()
    write_record(path, record)
    assert path.read_bytes() == before


def test_experiments_are_described_and_a_pipeline_run_links_to_its_stages(workspace):
    report = sync(workspace.root)
    notes = {e.name: e.tags.get("mlflow.note.content", "") for e in workspace.client.search_experiments()}
    assert "test/top1" in notes["demo-classification"]
    assert "links to the runs of the stages" in notes["demo-pipeline"]
    (pipeline,) = workspace.runs("demo-pipeline")
    for line in report.lines:
        assert line.link in pipeline.data.tags["mlflow.note.content"]


def test_a_description_that_is_too_long_keeps_the_stages_that_ran():
    lines = tuple(
        StageLine(f"train_classifier@cell{i}", "ran" if i == 499 else "unchanged", f"{i:032}", "x", f"#/{i:032}")
        for i in range(500)
    )
    note = _note(lines)
    assert len(note) <= 8000
    assert "train_classifier@cell499" in note
    assert note.endswith("more, in the artifact stages.md\n")


def test_a_run_describes_what_changed_since_the_previous_one(workspace):
    """And it has short tags to filter by."""
    sync(workspace.root)
    path = workspace.root / "runs/train_classifier/mlp.json"
    record = read_record(path)
    later = {"record_id": "later", "started_ms": record.started_ms + 1000, "params": {**record.params, "rate": 0.25}}
    write_record(path, replace(record, **later))
    sync(workspace.root)
    runs = [run for run in workspace.runs("demo-classification") if run.info.run_name == "train mlp"]
    newest, first = sorted(runs, key=lambda run: -run.info.start_time)
    assert first.data.tags[NOTE] == "The first run of `train_classifier@mlp`."
    note = newest.data.tags[NOTE]
    assert f"runs/{first.info.run_id}) of `train_classifier@mlp`:" in note
    before = first.data.params.get("rate", "absent")
    assert note.splitlines()[-1] == f"| rate | {before} | 0.25 |"
    assert (newest.data.tags["stage"], newest.data.tags["name"]) == ("train_classifier", "mlp")


def test_panels_of_pictures_are_images_in_mlflow_once(workspace):
    """MLflow shows no WebP files. The first panel of a stage is the run's summary."""
    root, path = workspace.root, workspace.root / "runs/train_classifier/mlp.json"
    artifacts = []
    for name in ("predictions.webp", "mistakes.webp", "curves.webp"):
        picture = root / "reports/figures/evaluate_classifier/mlp" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(picture)
        artifacts.append(ArtifactFile(picture.relative_to(root).as_posix(), file_digest(picture), "figures"))
    write_record(path, replace(read_record(path), artifacts=artifacts))
    sync(root)
    (run,) = [run for run in workspace.runs("demo-classification") if run.info.run_name == "train mlp"]
    for _ in range(2):
        images = [file.path for file in workspace.client.list_artifacts(run.info.run_id, "images")]
        assert sorted(name.partition("+")[0] for name in images if name.endswith(".png")) == [
            "images/mistakes",
            "images/summary",
        ]
        log_artifacts(workspace.client, run.info.run_id, root, artifacts)
