"""Stages side by side: the order they may run in, and the same results as one after another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from tests.fixtures.files import run_dvc

from seesay.core.errors import InputError
from seesay.core.forkserver import ForkServer
from seesay.jobs import Schedule, read_graph, share_gpus

PIPELINE = """
stages:
  fetch: {cmd: python stage.py fetch, deps: [stage.py], outs: [data]}
  train:
    foreach: [a, b, c]
    do:
      cmd: python stage.py train-${item}
      deps: [data, stage.py]
      params: ['rates.${item}']
      outs: ['models/${item}']
  compare: {cmd: python stage.py compare, deps: [models, stage.py], outs: [table]}
"""

STAGE = """
import os, sys, time
from pathlib import Path

from ruamel.yaml import YAML

name = sys.argv[1]
Path("ran").mkdir(exist_ok=True)
with (Path("ran") / name).open("a") as file:
    file.write(f"{time.monotonic()} {os.getpid()}\\n")
if name == "fetch":
    Path("data").write_text("data")
elif name == "compare":
    Path("table").write_text("".join(path.read_text() for path in sorted(Path("models").iterdir())))
else:
    rate = YAML(typ="safe").load(Path("params.yaml").read_text())["rates"][name[-1]]
    if rate < 0:
        sys.exit("a negative rate")
    if name != "train-c":  # the other one must be running too: fails after a minute where it is not
        other = Path("ran") / ("train-b" if name == "train-a" else "train-a")
        deadline = time.monotonic() + 60
        while os.environ.get("SIDE_BY_SIDE") and not other.exists():
            assert time.monotonic() < deadline, f"{other} never ran"
            time.sleep(0.05)
        time.sleep(rate)
    Path("models").mkdir(exist_ok=True)
    (Path("models") / name[-1]).write_text(f"{name} {rate}\\n")
"""

RUN = """
import os, sys
from pathlib import Path
from seesay.core import forkserver
sys.executable = os.environ.get("FORKING_PYTHON", sys.executable)  # workers are forks too
from seesay.jobs import run_side_by_side
forkserver.LIBRARIES = ["ruamel.yaml"]  # what the stages import
sys.exit(run_side_by_side(Path(), sys.argv[2:], [], num_jobs=int(sys.argv[1])).status)
"""


def schedule_of(**needs: str) -> Schedule:
    return Schedule({stage: frozenset(needed.split()) for stage, needed in needs.items()})


def test_a_stage_runs_once_all_that_it_depends_on_is_done():
    schedule = schedule_of(a="", b="", c="a b", d="c elsewhere")
    assert [schedule.next(), schedule.next(), schedule.next()] == ["a", "b", None]
    schedule.finish("a", passed=True)
    assert schedule.next() is None
    schedule.finish("b", passed=True)
    assert (schedule.next(), schedule.next()) == ("c", None)
    assert not schedule.is_done
    schedule.finish("c", passed=True)
    assert schedule.next() == "d"
    schedule.finish("d", passed=True)
    assert schedule.is_done
    assert (schedule.failed, schedule.left_out) == ([], [])


def test_the_longest_chain_goes_first():
    schedule = schedule_of(short="", other="", first="", second="first", last="second short other elsewhere")
    assert [schedule.next(), schedule.next()] == ["first", "short"]
    schedule.finish("first", passed=True)
    assert [schedule.next(), schedule.next(), schedule.next()] == ["other", "second", None]


def test_what_depends_on_a_failed_stage_is_left_out_and_nothing_else():
    schedule = schedule_of(last="far side", far="near", near="a", side="b", a="", b="")
    assert {schedule.next(), schedule.next()} == {"a", "b"}
    schedule.finish("a", passed=False)
    assert (schedule.failed, sorted(schedule.left_out)) == (["a"], ["far", "last", "near"])
    schedule.finish("b", passed=True)
    assert schedule.next() == "side"
    schedule.finish("side", passed=True)
    assert schedule.is_done


@pytest.mark.parametrize(
    ("visible", "parts"),
    [
        ("0,1,2,3", ["0,2", "1,3"]),
        ("GPU-a, GPU-b,GPU-c", ["GPU-a,GPU-c", "GPU-b"]),
        ("2", ["2", "2"]),
        ("", [None, None]),
    ],
)
def test_each_job_sees_its_own_gpus(visible, parts):
    shared = share_gpus(2, {"CUDA_VISIBLE_DEVICES": visible})
    assert [one.get("CUDA_VISIBLE_DEVICES") for one in shared] == parts


@pytest.mark.parametrize(("driver", "parts"), [("echo GPU-a; echo GPU-b", ["GPU-a", "GPU-b", "GPU-a"]), ("exit 9", [])])
def test_the_driver_says_which_gpus_there_are(driver, parts, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{driver}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert [value for one in share_gpus(3, {}) for value in one.values()] == parts


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / ".gitignore").write_text("/data\n/models\n/table\n/ran\n")  # else DVC writes one into models/
    write_rates(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    run_dvc(tmp_path, "init", "-q")
    return tmp_path


def write_rates(root: Path, **rates: float) -> None:
    rates = {"a": 0.0, "b": 0.0, "c": 0.0, **rates}
    (root / "params.yaml").write_text(f"rates: {json.dumps(rates)}\n")


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., tuple[int, str]]]:
    """A function that runs `RUN` to its end, all of it in forks of a process that has imported DVC."""
    server = ForkServer(os.environ, ("dvc.cli", "dvc.commands.repro", "dvc.repo", "seesay.jobs"))
    script, python = server.folder / "run.py", str(server.folder / "python")
    script.write_text(RUN)

    def run(root: Path, *arguments: str, side_by_side: bool = False) -> tuple[int, str]:
        process = _start([python, str(script), *arguments], root, side_by_side=side_by_side, FORKING_PYTHON=python)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    yield run
    server.end()


def start(root: Path, *arguments: str, side_by_side: bool = False) -> subprocess.Popen[str]:
    """Start `seesay.jobs` with ordinary processes for workers, to be killed."""
    return _start([sys.executable, "-c", RUN, *arguments], root, side_by_side=side_by_side)


def _start(command: list[str], root: Path, *, side_by_side: bool, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    if side_by_side:
        environment["SIDE_BY_SIDE"] = "1"
    return subprocess.Popen(
        command, cwd=root, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
    )  # fmt: skip


def wait_until_both_train(root: Path) -> None:
    deadline = time.monotonic() + 120
    while not all((root / "ran" / name).exists() for name in ("train-a", "train-b")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def times_run(root: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().splitlines()) for path in sorted((root / "ran").iterdir())}


def test_stages_side_by_side_give_the_results_of_one_by_one(run, project, tmp_path_factory):
    status, said = run(project, "2", side_by_side=True)
    assert status == 0, said
    assert times_run(project) == dict.fromkeys(["compare", "fetch", "train-a", "train-b", "train-c"], 1)
    assert Repo(str(project)).status() == {}
    alone = tmp_path_factory.mktemp("alone")
    for name in ("dvc.yaml", "stage.py", "params.yaml", ".gitignore"):
        (alone / name).write_text((project / name).read_text())
    subprocess.run(["git", "init", "-q"], cwd=alone, check=True)
    run_dvc(alone, "init", "-q")
    run_dvc(alone, "repro", "-q")
    read = YAML(typ="safe")
    assert read.load(alone / "dvc.lock") == read.load(project / "dvc.lock")
    assert (alone / "table").read_text() == (project / "table").read_text()

    assert run(project, "2") == (0, "")  # nothing to do
    write_rates(project, c=0.5)
    assert read_graph(project, []).keys() == {"train@c", "compare"}
    assert run(project, "2")[0] == 0
    assert times_run(project) == {"compare": 2, "fetch": 1, "train-a": 1, "train-b": 1, "train-c": 2}


def test_a_failed_stage_stops_only_what_depends_on_it(run, project):
    write_rates(project, b=-1.0)
    status, said = run(project, "2")
    assert status == 1
    assert "train@b: a negative rate" in said
    assert "seesay: error: train@b failed" in said
    assert "seesay: not run, since they depend on it: compare" in said
    assert times_run(project) == {"fetch": 1, "train-a": 1, "train-b": 1, "train-c": 1}
    assert run(project, "2", "train@a", "train@c")[0] == 0
    assert times_run(project)["train-a"] == 1


def test_a_target_may_be_a_stage_or_one_of_its_instances(project):
    assert read_graph(project, ["train@a"]).keys() == {"fetch", "train@a"}
    assert read_graph(project, ["train"]).keys() == {"fetch", "train@a", "train@b", "train@c"}
    with pytest.raises(InputError, match="'trian': there is no such stage"):
        read_graph(project, ["trian"])


def test_forced_stages_run_again_though_nothing_differs(run, project):
    (project / "photo").write_text("of one's own")
    run_dvc(project, "add", "-q", "photo")
    assert read_graph(project, []).keys() == {"fetch", "train@a", "train@b", "train@c", "compare"}
    assert run(project, "2")[0] == 0
    assert read_graph(project, ["train@a"]) == {}
    assert read_graph(project, ["train@a"], everything=True) == {"fetch": set(), "train@a": {"fetch"}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_stage_and_goes_on_where_it_was(run, project, number):
    write_rates(project, a=60.0, b=60.0)
    process = start(project, "4", side_by_side=True)  # so that a worker is idle
    wait_until_both_train(project)
    time.sleep(0.3)
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    assert "jobs.py" not in said  # an idle worker ends without a traceback
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    pids = [int((project / "ran" / name).read_text().split()[-1]) for name in ("train-a", "train-b")]
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a stage is still running"
        time.sleep(0.2)
    write_rates(project)
    assert run(project, "2")[0] == 0
    assert times_run(project)["fetch"] == 1


def test_a_killed_worker_fails_its_stage_and_the_others_go_on(run, project):
    write_rates(project, a=4.0, b=4.0)
    process = start(project, "2", side_by_side=True)
    wait_until_both_train(project)
    workers = [child for child in psutil.Process(process.pid).children() if "seesay.jobs" in child.cmdline()]
    assert len(workers) == 2, "both are busy: each has one of the two stages"
    workers[0].kill()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    failed = {stage for stage in ("train@a", "train@b") if f"seesay: error: {stage} failed" in said}
    assert len(failed) == 1, said
    assert "seesay: not run, since they depend on it: compare" in said
    assert times_run(project) == {"fetch": 1, "train-a": 1, "train-b": 1, "train-c": 1}
    write_rates(project)
    assert run(project, "2")[0] == 0
