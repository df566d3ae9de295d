"""Trainings that are killed or interrupted at random times resume, and end in the same bytes.

SEESAY_FAULT_ROUNDS sets the number of rounds of each fault, SEESAY_FAULT_SEED their times.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

NUM_ROUNDS = int(os.environ.get("SEESAY_FAULT_ROUNDS", "1"))
NUM_EPOCHS, NUM_SEEDS = 10, 2
STAGE = "train_classifier@mlp"
REPRO = {"dvc": ["dvc", "repro", STAGE], "seesay": ["seesay.cli", "repro", STAGE]}
RUNNERS = list(REPRO) if NUM_ROUNDS > 1 else ["dvc"]
SLOWLY = """
import time
from seesay.training import loop
finish = loop.Progress.finish
def slowly(progress, epoch, metrics):
    finish(progress, epoch, metrics)
    time.sleep(0.05)
loop.Progress.finish = slowly
"""
"""Put before the stage's script: epochs so short would leave no time to interrupt one."""


class Trained:
    """A copy of the prepared workspace in which one classifier of two seeds is trained."""

    def __init__(self, prepared: Any, root: Path) -> None:
        shutil.copytree(prepared.root, root)
        self.root, self.python = root, prepared.python
        self.environment = prepared.environment
        self.stderr = root / "stderr.txt"

    def start(self, runner: str) -> subprocess.Popen[bytes]:
        """Start a repro in a session of its own, as a terminal does. Its runner is an ordinary process."""
        with self.stderr.open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", *REPRO[runner]], cwd=self.root, env=self.environment,
                stdout=stderr, stderr=stderr, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.stderr.read_text() if self.stderr.exists() else ""

    def wait_for(self, pattern: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 300
        while not re.search(pattern, self.said):
            assert process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def stages(self) -> list[psutil.Process]:
        """Return the processes of the stage that are running."""
        found = []
        for process in psutil.process_iter(["cwd", "environ"]):
            own = process.info["environ"] or {}
            if own.get("DVC_STAGE") == STAGE and process.info["cwd"] == str(self.root):
                found.append(process)
        return found

    def results(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for folder in ("models/classifiers", "metrics/train_classifier")
            for path in sorted((self.root / folder).rglob("*.*"))
            if path.name != ".gitignore"
        }

    def finished_epochs(self) -> list[tuple[int, int]]:
        """Return (network, epoch) for each epoch that any process finished, in the order of their ends."""
        network, finished = 0, []
        for line in self.said.splitlines():
            if match := re.match(r"network (\d+) of", line):
                network = int(match[1])
            elif match := re.match(r"epoch (\d+)/", line):
                finished.append((network, int(match[1])))
        return finished


@pytest.fixture(scope="module")
def prepared(new_workspace: Callable[..., Any], python_of_workspace: Path) -> Any:
    """Its `python` imports seesay anew, as that of `seesay repro` does: code that is loaded decides what is resumed."""
    workspace = replace(new_workspace(tracking=False), python=python_of_workspace)
    workspace.change("classifiers.mlp.training.epochs", NUM_EPOCHS)
    script = workspace.root / "stages/train_classifier.py"
    script.write_text(SLOWLY + script.read_text())
    done = workspace.repro("prepare_images", "placeholder")
    assert done.status == 0, done.output
    return workspace


@pytest.fixture
def trained(prepared: Any, tmp_path: Path) -> Trained:
    return Trained(prepared, tmp_path / "workspace")


@pytest.fixture(scope="module")
def undisturbed(prepared: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The results of a run without faults, and its duration in seconds from the first epoch on."""
    trained = Trained(prepared, tmp_path_factory.mktemp("undisturbed") / "workspace")
    process = trained.start("dvc")
    trained.wait_for("network 1", process)
    started = time.monotonic()
    assert process.wait(300) == 0, trained.said
    assert len(trained.finished_epochs()) == NUM_EPOCHS * NUM_SEEDS
    return trained.results(), time.monotonic() - started


def wait_until_gone(trained: Trained, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while trained.stages():
        assert time.monotonic() < deadline, trained.said
        time.sleep(0.05)


def kill_stage(trained: Trained, process: subprocess.Popen[bytes]) -> None:
    for stage in trained.stages():
        stage.kill()
    process.wait(60)


def kill_runner(trained: Trained, process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(60)


def press_ctrl_c(trained: Trained, process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert not trained.stages(), "the runner ended before its stage"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of other processes")
@pytest.mark.parametrize("number", range(NUM_ROUNDS))
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("fault", [kill_stage, kill_runner, press_ctrl_c])
def test_an_interrupted_training_trains_nothing_twice(
    fault: Callable[..., None], runner: str, number: int, trained: Trained, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    expected, seconds = undisturbed
    seed = f"{os.environ.get('SEESAY_FAULT_SEED', '0')} {fault.__name__} {runner} {number}"
    delay = random.Random(seed).uniform(0.0, seconds)
    lock = (trained.root / "dvc.lock").read_bytes()
    process = trained.start(runner)
    trained.wait_for("network 1", process)
    time.sleep(delay)
    fault(trained, process)
    # At once: where a stage still runs, the new one waits for it. Where DVC still runs, a new DVC refuses.
    said_before = trained.said
    while trained.start("dvc").wait(300) != 0:
        said, said_before = trained.said.removeprefix(said_before), trained.said
        if runner == "dvc" and re.search(r"'\./dvc\.lock' (is invalid|validation failed)\.", said):
            (trained.root / "dvc.lock").write_bytes(lock)  # DVC writes it in place, seesay whole
            continue
        if runner == "dvc" and "'.dvc/tmp/rwlock'. JSON structure is corrupted" in said:
            (trained.root / ".dvc/tmp/rwlock").unlink()  # likewise
            continue
        assert "and try again.\n" in said, trained.said  # the DVC that ends may say something after it
        time.sleep(0.5)
    finished = trained.finished_epochs()
    assert len(finished) == len(set(finished)), (delay, trained.said)
    assert trained.results() == expected, (delay, trained.said)
    wait_until_gone(trained)
    assert "Traceback" not in trained.said


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of other processes")
@pytest.mark.parametrize(
    ("runner", "send", "status"), [("dvc", os.killpg, 255), ("seesay", os.killpg, 130), ("seesay", os.kill, 130)]
)
def test_ctrl_c_says_where_it_was_and_the_rerun_where_it_goes_on(
    runner: str, send: Callable[[int, int], None], status: int, trained: Trained
) -> None:
    process = trained.start(runner)
    trained.wait_for("epoch 3/", process)
    send(process.pid, signal.SIGINT)
    assert process.wait(60) == status
    assert not trained.stages()
    assert trained.said.count("\nseesay: ") == 1
    (epoch,) = re.findall(rf"\nseesay: interrupted at epoch (\d+) of {NUM_EPOCHS}; run again to resume\n", trained.said)
    assert "Traceback" not in trained.said
    again = trained.start(runner)
    trained.wait_for(f"resuming at epoch {int(epoch) + 1} of {NUM_EPOCHS}\n", again)
    os.killpg(again.pid, signal.SIGINT)
    again.wait(60)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of other processes")
@pytest.mark.parametrize("runner", list(REPRO))
def test_a_stage_ends_when_its_runner_is_killed(runner: str, trained: Trained) -> None:
    process = trained.start(runner)
    trained.wait_for("epoch 2/", process)
    kill_runner(trained, process)
    wait_until_gone(trained)
    finished = trained.finished_epochs()
    assert len(finished) < NUM_EPOCHS, "it has trained to the end"


def test_a_run_that_dvc_has_not_saved_is_not_trained_again(trained: Trained) -> None:
    """DVC was killed after the stage and before its own commit: it removes the outputs, and starts the stage again."""
    stage = [str(trained.python / "python"), "stages/train_classifier.py", "mlp"]
    environment = {**trained.environment, "DVC_STAGE": STAGE}

    def run() -> str:
        done = subprocess.run(stage, cwd=trained.root, env=environment, text=True, capture_output=True, check=True)
        return done.stderr

    assert f"epoch {NUM_EPOCHS}/{NUM_EPOCHS}" in run()
    results = trained.results()
    shutil.rmtree(trained.root / "models/classifiers/mlp")
    for path in (trained.root / "runs/train_classifier/mlp.json", trained.root / "metrics/train_classifier/mlp.json"):
        path.unlink()
    again = run()
    assert again.count(f"all {NUM_EPOCHS} epochs are trained already") == NUM_SEEDS
    assert "epoch 1/" not in again
    assert trained.results() == results


def test_a_training_whose_outputs_cannot_be_written_is_kept(trained: Trained) -> None:
    stage = [str(trained.python / "python"), "stages/train_classifier.py", "mlp"]

    def run(status: int) -> str:
        done = subprocess.run(stage, cwd=trained.root, env=trained.environment, text=True, capture_output=True)
        assert done.returncode == status, done.stderr
        return done.stderr

    (trained.root / "models").mkdir(exist_ok=True)
    shutil.rmtree(trained.root / "models/classifiers", ignore_errors=True)
    (trained.root / "models/classifiers").write_text("a file where the folder should be")
    assert "\nseesay: error: " in run(1)
    (trained.root / "models/classifiers").unlink()
    assert run(0).count(f"all {NUM_EPOCHS} epochs are trained already") == NUM_SEEDS
    assert not list((trained.root / ".work").rglob("training_state.pt"))


def test_the_state_of_a_saved_run_is_removed_with_the_next_stage(trained: Trained) -> None:
    for stage in (STAGE, "evaluate_classifier@mlp"):
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
        subprocess.run(command, cwd=trained.root, env=trained.environment, check=True, capture_output=True)
        left = list((trained.root / ".work").rglob("training_state.pt"))
        assert len(left) == (NUM_SEEDS if stage == STAGE else 0)
