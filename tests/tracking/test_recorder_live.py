"""What MLflow shows of stages that run, fail, are killed, or cannot reach it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.tracking.conftest import Project

from seesay.tracking import mlflow_runs
from seesay.tracking import tracker_process as session
from seesay.tracking.environment import Process
from seesay.tracking.ledger import PipelineRun
from seesay.tracking.records import RunRecord, read_record
from seesay.tracking.sqlite_store import repair_moved_paths
from seesay.tracking.store import experiment_id, locate_store, open_client
from seesay.tracking.tracker import Pipeline, socket_of

STAGE = """
import os, signal, sys, time
from pathlib import Path
from seesay.tracking.recorder import record_stage

with record_stage(Path(), "train_classifier", sys.argv[1], params={"rate": 0.5}, seed=1) as log:
    log({"train/loss": 1.0}, step=1)
    log.summary({"val/top1": float("nan")})
    what = sys.argv[2]
    if what != "end":
        while log.tracker.answers.get("run_id") is None:  # wait until MLflow knows of the run
            time.sleep(0.05)
    if what == "term":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        print("hanging", flush=True)
        time.sleep(600)
"""


def start(root: Path, cell: str, what: str = "end", **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STAGE, cell, what]
    everything = {**os.environ, **environment}
    return subprocess.Popen(
        command, cwd=root, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, error = process.communicate(timeout=300)
    return process.returncode, error


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("workspace"))


def statuses(workspace: Project) -> dict[str, str]:
    return {run.info.run_name.removeprefix("train "): run.info.status for run in workspace.runs("classification")}


@pytest.mark.parametrize("foreign", [False, True])
def test_eight_processes_that_open_a_fresh_store_at_once_all_succeed(tmp_path, monkeypatch, foreign):
    if foreign:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/shared.db")
    # They fork from one that has imported mlflow, so that they start at the same moment, and this test sooner.
    code = """
import os
from pathlib import Path
import mlflow.tracking, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from seesay.tracking.store import experiment_id, locate_store, open_client
from seesay.tracking.tracker import socket_of

children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        store = locate_store(Path().resolve())
        client = open_client(store)
        client.create_run(experiment_id(client, store, "classification"))
        os._exit(0)
    children.append(child)
raise SystemExit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert finish(process)[0] == 0
    assert len(Project(tmp_path).runs("classification")) == 8


def test_stages_of_one_execution_share_a_pipeline_run_whatever_their_end(workspace):
    # One tracker process serves them all, as in `dvc repro`.
    ends = {}
    for what in ("end", "term", "kill"):
        ends[what], error = finish(start(workspace.root, what, what, SEESAY_PIPELINE="one"))
        assert "warning" not in error
    assert ends == {"end": 0, "term": 143, "kill": -signal.SIGKILL}
    wait_for(lambda: "RUNNING" not in statuses(workspace).values())
    assert statuses(workspace) == {"end": "FINISHED", "term": "KILLED", "kill": "KILLED"}
    (pipeline,) = workspace.runs("pipeline")
    assert pipeline.info.status == "FAILED"
    parents = {run.data.tags["mlflow.parentRunId"] for run in workspace.runs("classification")}
    assert parents == {pipeline.info.run_id}


def test_nan_reaches_mlflow_and_the_record_says_which_run_it_is(workspace):
    record = read_record(workspace.root / "runs/train_classifier/end.json")
    run = workspace.client.get_run(record.run_id)
    assert str(run.data.metrics["val/top1"]) == "nan"
    assert run.data.params == {"rate": "0.5", "seed": "1"}
    assert run.data.tags["seesay.record_id"] == record.record_id
    assert (record.tracking, record.experiment) == ("recorded", "classification")
    assert record.pipeline_run_id == run.data.tags["mlflow.parentRunId"]


def test_what_died_together_with_its_tracker_is_closed_by_the_next_stage(workspace):
    hanging = start(workspace.root, "hang", "hang", SEESAY_PIPELINE="two")
    assert hanging.stdout is not None
    assert hanging.stdout.readline() == "hanging\n"
    trackers = trackers_of(workspace.root)
    assert len(trackers) >= 1
    for process in trackers:
        process.kill()
    hanging.kill()
    finish(hanging)
    assert statuses(workspace)["hang"] == "RUNNING"
    assert finish(start(workspace.root, "next", SEESAY_PIPELINE="two"))[0] == 0
    assert statuses(workspace)["hang"] == "KILLED"
    assert statuses(workspace)["next"] == "FINISHED"


def test_a_server_that_is_down_costs_a_warning_and_nothing_else(tmp_path):
    """One for an execution, however many stages it has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        down = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        pipelines = {"mlp": "first", "cnn": "first", "later": "second"}
        ends = [finish(start(tmp_path, cell, SEESAY_PIPELINE=name, **down)) for cell, name in pipelines.items()]
    assert [code for code, _ in ends] == [0, 0, 0]
    assert [error.count("seesay: warning: MLflow does not record this run") for _, error in ends] == [1, 0, 1]
    for cell in pipelines:
        record = read_record(tmp_path / f"runs/train_classifier/{cell}.json")
        assert (record.tracking, record.run_id, record.status) == ("unreachable", None, "FINISHED")
        assert (tmp_path / f"metrics/train_classifier/{cell}.json").is_file()


def test_a_tracker_that_is_too_slow_is_left_behind(tmp_path):
    code, error = finish(start(tmp_path, "mlp", SEESAY_TRACKING_TIMEOUT="0.01"))
    assert code == 0
    assert error.count("warning") == 1
    assert read_record(tmp_path / "runs/train_classifier/mlp.json").tracking == "unreachable"


def test_a_process_is_not_mistaken_for_a_later_one_of_the_same_number():
    own = Process.of(psutil.Process())
    assert not own.is_gone
    assert Process(own.host, own.pid, "12345.00").is_gone
    assert not Process("elsewhere", own.pid, "12345.00").is_gone
    assert Process.parse(str(own)) == own


def test_a_moved_repository_finds_its_artifacts_again(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    store = locate_store(before)
    client = open_client(store)
    run = client.create_run(experiment_id(client, store, "classification"))
    client.log_text(run.info.run_id, "content", "note.txt")
    before.rename(after)
    client = open_client(locate_store(after))
    assert Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text() == "content"


def test_a_repository_below_a_folder_called_artifacts_keeps_its_paths(tmp_path):
    root = tmp_path / "artifacts/repository"
    store = locate_store(root)
    client = open_client(store)
    run = client.create_run(experiment_id(client, store, "classification"))
    client.log_text(run.info.run_id, "content", "note.txt")
    for _ in range(2):
        assert not repair_moved_paths(root / "mlruns")
        client = open_client(store)
        assert client.get_run(run.info.run_id).info.artifact_uri == run.info.artifact_uri
    moved = tmp_path / "artifacts/mlruns/artifacts/moved"
    moved.parent.mkdir(parents=True)
    root.rename(moved)
    client = open_client(locate_store(moved))
    assert Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text() == "content"
    assert not repair_moved_paths(moved / "mlruns")


def test_a_location_in_a_bucket_is_not_taken_for_the_moved_repository(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "mlruns")
    store, location = locate_store(tmp_path), "s3://bucket/team/mlruns/artifacts/mine"
    number = open_client(store).create_experiment("mine", artifact_location=location)
    assert open_client(store).get_experiment(number).artifact_location == location


@pytest.mark.parametrize(("broken", "num_calls"), [("log_params", 1), ("set_tags", 2)])  # the run's description too
def test_a_start_that_breaks_off_locked_and_is_tried_again_makes_one_run(
    tmp_path, empty_store, monkeypatch, broken, num_calls
):
    shutil.copytree(empty_store, tmp_path / "mlruns")
    (tmp_path / "dvc.yaml").write_text("")
    monkeypatch.setattr(session, "compute_stage_hash", lambda *_: "hash")
    monkeypatch.setattr(session.time, "sleep", lambda _: None)
    works, calls = getattr(mlflow_runs, broken), []

    def locked_at_first(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("(sqlite3.OperationalError) database is locked")
        works(*arguments)

    monkeypatch.setattr(mlflow_runs, broken, locked_at_first)
    record = RunRecord(stage="train_classifier", cell="mlp", params={"rate": 0.5}, seed=1)
    message = {"do": "start", "root": str(tmp_path), "record": asdict(record), "pipeline": {"is_pipeline": False}}
    own = str(Process.of(psutil.Process()))
    answer = session.Session(tmp_path).handle({**message, "process": own})
    (run,) = Project(tmp_path).runs("classification")
    assert len(calls) == 1 + num_calls
    assert run.info.run_id == answer["run_id"]
    assert run.data.params == {"rate": "0.5", "seed": "1"}
    assert run.data.tags["dvc.stage_hash"] == "hash"


def test_a_run_that_finished_stays_so_if_its_pipeline_ends_only_later(tmp_path, empty_store, monkeypatch):
    shutil.copytree(empty_store, tmp_path / "mlruns")
    works, calls = PipelineRun.end_stage, []

    def slow_at_first(run: PipelineRun, **ending: Any) -> None:
        calls.append(ending)
        if len(calls) == 1:
            raise TimeoutError("no answer within 60 s")
        works(run, **ending)

    monkeypatch.setattr(PipelineRun, "end_stage", slow_at_first)
    own = Process.of(psutil.Process())
    record = RunRecord(stage="train_classifier", cell="mlp", params={"rate": 0.5}, seed=1)
    pipeline = asdict(Pipeline("key", own, is_pipeline=True))
    stage = session.Session(tmp_path)
    stage.handle(
        {"do": "start", "root": str(tmp_path), "record": asdict(record), "pipeline": pipeline, "process": str(own)}
    )
    with pytest.raises(TimeoutError):
        stage.handle({"do": "end", "status": "FINISHED", "ended_ms": record.started_ms + 5})
    stage.abandon()
    assert calls == 2 * [{"failed": False, "ended_ms": record.started_ms + 5}]
    ends = [(run.info.status, run.info.end_time) for run in Project(tmp_path).runs("classification", "pipeline")]
    assert ends == 2 * [("FINISHED", record.started_ms + 5)]


def test_old_files_are_forgotten_also_if_one_is_already_gone(tmp_path):
    """Two tracker processes may start at once."""
    old, new, gone = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "gone.json"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    gone.symlink_to(tmp_path / "nothing")  # listed, but `stat` does not find it
    session._forget_old_files(tmp_path)
    assert sorted(path for path in tmp_path.iterdir()) == [gone, new]


def _is_tracker_of(process: psutil.Process, root: Path) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "seesay.tracking.tracker_process" in words and str(root / ".work/pipelines") in words


def trackers_of(root: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _is_tracker_of(process, root)]


def test_a_bad_or_silent_peer_costs_the_next_stages_nothing(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "mlruns")
    hanging = start(tmp_path, "hang", "hang", SEESAY_PIPELINE="peers")
    assert hanging.stdout is not None
    assert hanging.stdout.readline() == "hanging\n"
    (address,) = (tmp_path / ".work/pipelines").glob("*.address")
    path = socket_of(address)
    assert path is not None
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".work").stat().st_mode & 0o777 == 0o700
    (tracker,) = trackers_of(tmp_path)
    assert tracker.net_connections("inet") == []
    peers = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for peer, said in zip(
        peers, (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x04null", b"\xff" * 99, None), strict=True
    ):
        peer.connect(str(path))
        if said is None:
            peer.close()
        else:
            peer.sendall(said)
    for cell in ("first", "second"):
        code, error = finish(start(tmp_path, cell, SEESAY_PIPELINE="peers"))
        assert (code, error) == (0, "")
    assert trackers_of(tmp_path) == [tracker]
    hanging.kill()
    finish(hanging)
    for peer in peers:
        peer.close()


def test_a_silent_peer_does_not_keep_a_tracker_process_alive(tmp_path, monkeypatch):
    for name, seconds in (("SILENT_SECONDS", 1.0), ("GRACE_SECONDS", 2.0), ("POLL_SECONDS", 0.05)):
        monkeypatch.setattr(session, name, seconds)
    (tmp_path / "pipelines").mkdir()
    process = session.TrackerProcess(tmp_path / "pipelines", "key", Process(socket.gethostname(), 1, "gone"))
    serving = threading.Thread(target=process.serve)
    serving.start()
    wait_for(process.address.exists)
    path = socket_of(process.address)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as cut:
        silent.connect(str(path))
        cut.connect(str(path))
        cut.sendall(b"\x00\x00\x00\x09{")  # a message that breaks off
        serving.join(30)
        assert not serving.is_alive()
    assert path is not None
    assert not path.parent.exists()
