"""The tie, on a small real DVC project. One story: each test goes on where the one before it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from seesay.tracking.dvc_stages import hash_of_lock_entry
from seesay.tracking.records import read_record
from seesay.tracking.sync import sync

ADDRESSES = {"train_classifier@mlp", "train_classifier@cnn", "evaluate_classifier@mlp"}


def states(report: Any) -> dict[str, str]:
    return {line.address: line.state for line in report.lines}


def known(project: Any, runs: list[Any]) -> dict[str, Any]:
    """What a replayed run must have in common with the run it stands for."""
    client = project.client
    return {
        run.data.tags["dvc.stage"]: {
            "name": run.info.run_name,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "metrics": {name: history(client, run.info.run_id, name) for name in run.data.metrics},
            "artifacts": [file.path for file in client.list_artifacts(run.info.run_id)],
            "tags": {k: v for k, v in run.data.tags.items() if k.startswith(("dvc.", "git.", "model.", "seesay.rec"))},
        }
        for run in runs
    }


def history(client: Any, run_id: str, name: str) -> list[tuple[int, int, float]]:
    return sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, name))


def record_of(project: Any, cell: str) -> Any:
    return read_record(project.root / f"runs/train_classifier/{cell}.json")


def test_one_execution_is_one_pipeline_run_with_its_stage_runs(project):
    project.run("dvc", "repro", "-q")
    (pipeline,) = project.runs("pipeline")
    stages = project.runs("classification")
    assert {run.data.tags["dvc.stage"] for run in stages} == ADDRESSES
    assert {run.data.tags["mlflow.parentRunId"] for run in stages} == {pipeline.info.run_id}
    assert {run.info.status for run in [pipeline, *stages]} == {"FINISHED"}
    assert pipeline.info.end_time >= max(run.info.end_time for run in stages)


def test_the_stage_hash_is_the_key_of_dvcs_run_cache(project):
    lock = YAML(typ="safe").load((project.root / "dvc.lock").read_text())["stages"]
    cache = project.root / ".dvc/cache/runs"
    for cell in ("mlp", "cnn"):
        key = record_of(project, cell).tags["dvc.stage_hash"]
        assert (cache / key[:2] / key).is_dir()
        assert hash_of_lock_entry(lock[f"train_classifier@{cell}"]) == key


def test_the_first_sync_adopts_the_pipeline_run_of_the_stages(project):
    report = sync(project.root)
    (pipeline,) = project.runs("pipeline")
    assert report.problem is None
    assert report.pipeline == "adopted"
    assert report.pipeline_run_id == pipeline.info.run_id
    assert states(report)["train_classifier@mlp"] == "ran"
    assert set(states(report)) == ADDRESSES


def test_a_second_sync_changes_nothing(project):
    before = project.content()
    report = sync(project.root)
    assert not report.changed
    assert states(report)["train_classifier@cnn"] == "ran"
    assert project.content() == before


def test_a_changed_parameter_runs_its_stages_and_no_others(project):
    project.write_rate(0.125)
    project.run("dvc", "repro", "-q")
    report = sync(project.root)
    assert report.pipeline == "adopted"
    assert states(report)["train_classifier@mlp"] == "ran"
    assert states(report)["train_classifier@cnn"] == "unchanged"
    assert len(project.runs("pipeline")) == 2


def test_a_restored_parameter_links_the_run_that_made_the_cached_output(project):
    first = next(run for run in project.runs("classification") if run.data.tags["dvc.stage"] == "train_classifier@mlp")
    num_runs = len(project.runs("classification"))
    project.write_rate(0.25)
    project.run("dvc", "repro", "-q")
    report = sync(project.root)
    line = next(line for line in report.lines if line.address == "train_classifier@mlp")
    assert report.pipeline == "created"
    assert (line.state, line.run_id) == ("restored", first.info.run_id)
    assert len(project.runs("classification")) == num_runs
    pipeline = project.client.get_run(report.pipeline_run_id)
    assert pipeline.data.tags["stage.train_classifier.mlp"] == f"restored {first.info.run_id}"
    assert pipeline.info.status == "FINISHED"
    assert not sync(project.root).changed


def test_a_deleted_store_is_restored_with_every_metrics_history(project):
    current = {line.run_id for line in sync(project.root).lines if line.run_id}
    before = known(project, [run for run in project.runs("classification") if run.info.run_id in current])
    assert [step for step, _, _ in before["train_classifier@mlp"]["metrics"]["train/loss"]] == [1, 2]
    project.forget_mlflow()
    assert "didn't change" in project.run("dvc", "repro").stdout
    report = sync(project.root)
    assert set(states(report).values()) == {"replayed"}
    assert known(project, project.runs("classification")) == before
    (pipeline,) = project.runs("pipeline")
    assert {run.data.tags["mlflow.parentRunId"] for run in project.runs("classification")} == {pipeline.info.run_id}
    content = project.content()
    assert not sync(project.root).changed
    assert project.content() == content


def test_an_experiment_in_a_temporary_copy_records_into_the_main_store(project):
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "results")
    num_runs = len(project.runs("classification"))
    project.run("dvc", "exp", "run", "--temp", "-q", "-n", "halved", "-S", "models.mlp.learning_rate=0.0625")
    runs = project.runs("classification")
    assert len(runs) == num_runs + 2
    assert runs[-1].data.tags["dvc.exp_name"] == "halved"
    pipeline = project.client.get_run(runs[-1].data.tags["mlflow.parentRunId"])
    assert pipeline.info.run_name == "halved"
    assert pipeline.data.tags["seesay.workspace"].startswith(".dvc/tmp/exps/")


def test_a_failing_stage_leaves_a_failed_run_and_none_of_its_files(project):
    project.write_rate(-1.0)
    assert project.run("dvc", "repro", "-q", check=False).returncode != 0
    run = project.runs("classification")[-1]
    assert run.info.status == "FAILED"
    assert run.data.tags["seesay.error"] == "ValueError: a negative learning rate"
    assert project.runs("pipeline")[-1].info.status == "FAILED"
    assert not (project.root / "metrics/train_classifier/mlp.json").exists()
    assert not Path(project.root / "runs/train_classifier/mlp.json").exists()


def test_an_execution_in_which_nothing_ran_well_is_not_the_current_state(project):
    report = sync(project.root)
    assert (report.pipeline, report.changed) == ("unchanged", False)
    assert states(report)["train_classifier@mlp"] == "no record"
