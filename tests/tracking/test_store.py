"""Stores that are new, half-made, damaged, slow or named with a password."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from seesay.core.errors import InputError, redact
from seesay.core.paths import Paths
from seesay.tracking import store as store_module
from seesay.tracking.recorder import record_stage
from seesay.tracking.records import read_record
from seesay.tracking.registry import register_models
from seesay.tracking.sqlite_store import require_whole
from seesay.tracking.store import experiment_id, locate_store, open_client
from seesay.tracking.sync import sync

OPEN = """
from pathlib import Path
from seesay.tracking.store import locate_store, open_client
open_client(locate_store(Path().resolve()))
"""
ROUNDS = int(os.environ.get("SEESAY_FAULT_ROUNDS", "1"))


def record_a_run(root: Path) -> None:
    store = locate_store(root)
    client = open_client(store)
    run = client.create_run(experiment_id(client, store, "classification"))
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_store_whose_making_was_killed_is_made_by_the_next(tmp_path, number):
    """SEESAY_FAULT_ROUNDS=20 kills at 20 random times, most of them within the migrations."""
    process = subprocess.Popen([sys.executable, "-c", OPEN], cwd=tmp_path)
    while not list(tmp_path.glob("mlruns/*.db")) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.3 if ROUNDS == 1 else random.uniform(0, 1.5))
    process.kill()
    process.wait()
    record_a_run(tmp_path)
    assert [path.name for path in tmp_path.glob("mlruns/*.db*")] == ["mlflow.db"]
    assert [path.name for path in tmp_path.glob("mlruns/.*.db*")] == []


@pytest.mark.parametrize("foreign", [False, True])
def test_a_half_made_store_without_runs_is_made_again(tmp_path, empty_store, monkeypatch, foreign):
    folder = tmp_path / "mlruns"
    shutil.copytree(empty_store, folder)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("DROP TABLE spans")
        database.execute("DELETE FROM alembic_version")
    if foreign:
        folder.rename(tmp_path / "elsewhere")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    monkeypatch.chdir(tmp_path)
    record_a_run(tmp_path)


@pytest.mark.parametrize("name", ["mlflow", "mlflow.db"])
def test_only_what_a_making_of_this_store_left_is_removed(tmp_path, name):
    database = tmp_path / name
    left = f".mlflow.0123abcd{database.suffix}"
    others = {".mlflow.lock", f".mlflow.copy{database.suffix}", ".mlflow.0123abcd.other", f"{left}-copy"}
    for each in {left, f"{left}-journal", f"{left}-wal", f"{left}-shm"} | others:
        (tmp_path / each).touch()
    require_whole(database)
    assert {path.name for path in tmp_path.iterdir()} == {name} | others


def test_a_store_with_runs_is_never_replaced(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "mlruns")
    record_a_run(tmp_path)
    database = tmp_path / "mlruns/mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    before = database.read_bytes()
    require_whole(database)
    assert database.read_bytes() == before


def test_a_database_with_tables_of_others_is_never_replaced(tmp_path, empty_store):
    """An URI may name the database of another program, where MLflow's tables are not made yet or of earlier ones."""
    database = tmp_path / "other.db"
    for earlier in (False, True):
        if earlier:
            shutil.copyfile(empty_store / "mlflow.db", database)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE customers (name TEXT)")
            if earlier:
                connection.execute("DELETE FROM alembic_version")
        before = database.read_bytes()
        require_whole(database)
        assert database.read_bytes() == before
        database.unlink()


@pytest.mark.parametrize("damage", ["a directory", "text", "header only"])
def test_a_damaged_store_is_named_with_what_to_do(workspace, damage):
    database = workspace.root / "mlruns/mlflow.db"
    if damage == "a directory":
        database.unlink()
        database.mkdir()
    else:
        database.write_bytes(b"not a database, but text\n" * 99 if damage == "text" else database.read_bytes()[:100])
    problem = str(sync(workspace.root).problem)
    assert problem.startswith(str(database))
    assert "move it away; then `seesay sync` makes a new store" in problem


@pytest.fixture
def dripping(tmp_path: Path) -> Iterator[int]:
    """The port of a server that answers with one byte every tenth of a second."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ended.wait(0.1):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    ended.set()
    listener.close()


SECRET = "s3cret-w0rd"


def test_a_dripping_server_is_given_up_and_its_password_kept(workspace, dripping, monkeypatch, capfd):
    uri = f"http://someone:{SECRET}@127.0.0.1:{dripping}"
    monkeypatch.setattr(store_module, "CALL_SECONDS", 0.5)
    monkeypatch.setenv("SEESAY_TRACKING_TIMEOUT", "0.5")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("SEESAY_PIPELINE", "dripping")
    with record_stage(workspace.root, "report", params={"url": uri, "urls": [uri]}) as log:
        log.summary({"a": 1.0})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    report = sync(workspace.root)
    assert report.problem == (
        f"http://127.0.0.1:{dripping}: TimeoutError: no answer within 0.5 s; "
        "check MLFLOW_TRACKING_URI, or unset it to use mlruns/"
    )
    output = "".join(capfd.readouterr())
    assert "warning: MLflow does not record this run" in output
    everything = [output, str(report)]
    everything += [p.read_text(errors="replace") for p in workspace.root.rglob("*") if p.is_file()]
    assert not [text for text in everything if SECRET in text]


@pytest.mark.parametrize("uri", [f"https://me:[{SECRET}@example.org", f"https://me:{SECRET}\u2100@example.org"])
def test_an_uri_that_is_none_is_one_problem_without_its_password(workspace, uri, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    problem = "MLFLOW_TRACKING_URI: expected a URI, with special characters of a password percent-encoded"
    assert sync(workspace.root).problem == problem
    assert register_models(workspace.root, [{"name": "x"}]) == 0
    assert f"warning: no model registered ({problem})" in capfd.readouterr().err
    with record_stage(workspace.root, "report", params={}) as log:
        log.summary({"a": 1.0})
    error = capfd.readouterr().err
    assert problem in error
    assert SECRET not in error


@pytest.mark.parametrize("seconds", ["inf", "1e300", "nan"])
def test_a_time_without_end_does_not_cost_the_results(workspace, seconds, monkeypatch):
    monkeypatch.setenv("SEESAY_TRACKING_TIMEOUT", seconds)
    with record_stage(workspace.root, "report", params={}) as log:
        log.summary({"a": 1.0})
    assert read_record(Paths(workspace.root).run_record("report", None)).tracking == "recorded"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("at http://a:b@h:1/x, http://h/y", "at http://h:1/x, http://h/y"),
        ("'postgresql+psycopg://a:b/c@h/db'", "'postgresql+psycopg://h/db'"),
        ("http://token@h", "http://h"),
        ("http://a:b@c@h/", "http://h/"),
        ("https://h/x.zip?v=1&X-Amz-Signature=abc&n=2", "https://h/x.zip"),
        ("mail a@h about http://h/a.zip", "mail a@h about http://h/a.zip"),
    ],
)
def test_credentials_in_urls_are_replaced_in_messages(text, redacted):
    assert redact(text) == redacted


def test_a_lock_held_by_another_program_is_no_damage(tmp_path, empty_store, monkeypatch):
    shutil.copytree(empty_store, tmp_path / "mlruns")
    database = tmp_path / "mlruns/mlflow.db"
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        real = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: real(path, timeout=0.1))
        with pytest.raises(InputError, match=r"mlflow\.db: database is locked$"):
            require_whole(database)
