"""Stages in two processes: the same losses as in one, the same bytes each time, and one error when a rank is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from seesay.core.forkserver import LIBRARIES, ForkServer
from seesay.core.paths import Paths
from seesay.proving import tiny_data
from seesay.proving.cases import COMMON, ENCODERS, Proof
from seesay.proving.running import prepare
from seesay.ranks import Ranks

STAGES = Path(__file__).resolve().parents[1] / "stages"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("SEESAY_", "DVC_"))}
ENVIRONMENT |= {"SEESAY_TRACKING": "off", "OMP_NUM_THREADS": "1"}

# Stages after one another in one script, since starting processes takes longer than such a stage.
DRIVER = """
import os
import sys
from contextlib import suppress
from pathlib import Path

from seesay.core.stage import guarded
from seesay.proving.running import load_stage
from seesay.ranks import in_processes, own_ranks
from torch.distributed.elastic.rendezvous import dynamic_rendezvous

dynamic_rendezvous.get_method_name = str  # for its log, it would look at every module that is imported


def main(stages, *steps):
    for step in steps:
        stage, _, cell = step.partition("@")
        with suppress(SystemExit):  # a rank that leaves the rest to rank 0 goes on with the next stage
            load_stage(Path(stages) / f"{stage}.py").main(cell, Path())
        own_ranks().from_first(None)


sys.executable = os.environ["FORKING_PYTHON"]  # ranks are forks too
guarded(in_processes(main), *sys.argv[1:])
"""
STAGE = """
import os, runpy, sys

sys.executable = os.environ.get("FORKING_PYTHON", sys.executable)
runpy.run_path(os.environ["STAGE"], run_name="__main__")
"""
IMPORTED = (
    *LIBRARIES, "seesay.proving.running", "torch.distributed.elastic.multiprocessing",
    "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend", "torch.distributed.launcher.api",
    *(f"seesay.{task}.training.experiments" for task in ("autoencoding", "captioning", "classification")),
)  # fmt: skip

ADAMW = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.99}
TRAINING: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "optimizer": ADAMW,
    "schedule": {"decay": "cosine", "warmup_fraction": 0.25},
    "max_gradient_norm": 1.0,
    "moving_average": {"decay": 0.5, "every_steps": 2},
}
PICTURES = {"flip": True, "crop_padding": 3, "cutout": 0.3}
LEARNING = {
    "datasets": ["dots"],
    "vocabulary": "dots",
    "features": ["dots_views"],
    "start": ["scratch"],
    "max_caption_length": 6,
    "best_by": "cider_d",
    "label_smoothing": 0.1,
    "architecture": {
        "name": "lstm",
        "image_enters": "initial_state",
        "embedding_size": 6,
        "hidden_size": 8,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "tie_weights": False,
    },
    "training": {**TRAINING, "batch_size": 5},
}
MLP = {"name": "mlp", "hidden_sizes": [12, 8], "dropout": 0.0}
CLASSIFIER = {
    "dataset": "uneven",
    "start": "scratch",
    "architecture": MLP,
    "augmentation": PICTURES,
    "training": TRAINING,
}
MIXING = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "probability": 0.7}
PARAMS: dict[str, Any] = {
    "classifiers": {
        "weighted": {**CLASSIFIER, "class_weights": "balanced"},
        "mixed": {
            **CLASSIFIER,
            "augmentation": {**PICTURES, "mixing": MIXING},
            "training": {**TRAINING, "accumulate_batches": 2},
        },
        "sharp": {**CLASSIFIER, "training": {**TRAINING, "sharpness_radius": 0.05}},
        "normed": {**CLASSIFIER, "architecture": {"name": "plain_cnn", "widths": [4, 8], "dropout": 0.2}},
    },
    "autoencoders": {
        "masked": {
            "dataset": "tiny",
            "start": "scratch",
            "architecture": {
                "name": "residual_autoencoder",
                "width": 6,
                "blocks": 1,
                "latent_channels": 3,
                "decoder_widths": [6, 4, 4],
                "decoder_blocks": 1,
            },
            "augmentation": PICTURES,
            "loss": {"l1": 0.0, "l2": 1.0, "log_l2": 0.0, "ssim": 0.0},
            "masking": {"patch_size": 8, "share": 0.4, "evaluation_seed": 7},
            "training": TRAINING,
        }
    },
    "captioners": {
        "human": {
            "learning": LEARNING,
            "decoding": {"method": "beam", "beam_size": 2, "length_penalty": 0.7, "max_length": 6, "batch_size": 2},
        },
        "reward": {
            "learning": {
                **LEARNING,
                "start": ["captioners/human"],
                "label_smoothing": 0.0,
                "self_critical": {"num_samples": 3},
            }
        },
    },
    "features": {
        "seen": {
            "dataset": "dots",
            "encoder": "weights/small_cnn",
            "resize_size": 40,
            "image_size": 36,
            "grid_size": 2,
            "batch_size": 3,
            "num_workers": 0,
        }
    },
    "evaluation": {
        "batch_size": 4,
        "bootstrap_resamples": 20,
        "bootstrap_seed": 0,
        "panel_images": 4,
        "panel_seed": 0,
        "test_time_flip": True,
    },
}
TUNED = ENCODERS["classifier"]  # features, then a captioner on them, then the encoder that learns on with it
for section, entries in TUNED.params.items():
    PARAMS[section] = {**PARAMS.get(section, {}), **entries}
SAME_AS_ALONE = ("train_classifier@weighted", "train_classifier@mixed", "train_classifier@sharp",
                 "train_autoencoder@masked", "train_captioner@human")  # fmt: skip
OTHER_DRAWS = ("train_classifier@normed", "train_captioner@reward", *(f"{stage}@{cell}" for stage, cell in TUNED.steps))
MEASURING = (
    "evaluate_classifier@weighted",
    "evaluate_autoencoder@masked",
    "extract_features@seen",
    "caption_images@human",
)


def new_root(folder: Path, processes: int | None, params: dict[str, Any] = PARAMS) -> Path:
    folder.mkdir()
    prepare(folder, Proof(params, (), TUNED.classifiers, weights=("small_cnn",)))
    use_processes(folder, processes)
    (folder / "driver.py").write_text(DRIVER)
    return folder


def use_processes(root: Path, processes: int | None) -> None:
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(root / "params.yaml")
    params["runtime"] = {**COMMON["runtime"], **({} if processes is None else {"processes": processes})}
    yaml.dump(params, root / "params.yaml")


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """A `python` with everything already imported; see `seesay.core.forkserver`."""
    pipeline = Path(__file__).parent / "pipeline"  # where `faster_outputs` is
    server = ForkServer({**ENVIRONMENT, "PYTHONPATH": str(pipeline)}, (*IMPORTED, "faster_outputs"))
    yield server.folder / "python"
    server.end()


@pytest.fixture(scope="module")
def run_steps(python: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(root: Path, *steps: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "driver.py", str(STAGES), *steps]
        environment = {**ENVIRONMENT, "FORKING_PYTHON": str(python)}
        done = subprocess.run(command, cwd=root, env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run


def outputs(root: Path) -> dict[str, bytes]:
    """Return what stages have written, by path, without the checksum of a generated archive, which has times."""
    folders = ("metrics", "models", "data/features", "data/predictions", "reports/figures")
    files = [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.name != "origin.json"}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, run_steps: Any) -> dict[str, Path]:
    """Folders in which all steps have run: in one process, and twice in two."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny_data.NUM_IMAGES, "test", 9)
        patch.setitem(tiny_data.NUM_CAPTIONED, "test", 3)
        for name, processes in (("alone", None), ("two", 2), ("again", 2)):
            root = new_root(tmp_path_factory.mktemp("ranks") / name, processes)
            run_steps(root, *SAME_AS_ALONE, *OTHER_DRAWS, *MEASURING)
            made[name] = root
    return made


def test_two_processes_give_the_same_bytes_each_time(roots: dict[str, Path]) -> None:
    first, second = outputs(roots["two"]), outputs(roots["again"])
    assert len(first) > 20
    assert first == second


@pytest.mark.parametrize("step", SAME_AS_ALONE)
def test_two_processes_have_the_losses_of_one(roots: dict[str, Path], step: str) -> None:
    stage, _, cell = step.partition("@")
    one, two = (
        json.loads(Paths(roots[name]).metrics(stage, cell).read_text(encoding="utf-8")) for name in ("alone", "two")
    )
    assert two == pytest.approx(one, rel=1e-5)
    assert any(one[name] != two[name] for name in one), "sums of two halves are rounded in another order"


def test_two_processes_measure_the_same_bytes_as_one(roots: dict[str, Path], run_steps: Any) -> None:
    """Evaluated, extracted and decoded from the same models, in one process and in two."""
    alone = outputs(roots["alone"])
    use_processes(roots["alone"], 2)
    run_steps(roots["alone"], *MEASURING)
    assert outputs(roots["alone"]) == alone


def test_parts_of_a_batch_are_the_batch_in_order() -> None:
    parts = [list(range(10))[Ranks(rank, 3).part(10)] for rank in range(3)]
    assert parts == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_a_batch_too_small_for_all_ranks_goes_to_each() -> None:
    assert [list(range(2))[Ranks(rank, 3).part(2)] for rank in range(3)] == [[0, 1]] * 3


LONG = {
    **CLASSIFIER,
    "architecture": {"name": "mlp", "hidden_sizes": [12], "dropout": 0.3},
    "training": {**TRAINING, "epochs": 40},
}


@pytest.fixture
def run_stage(tmp_path: Path, python: Path) -> Callable[..., subprocess.Popen[str]]:
    """A function that starts the stage `train_classifier` with the words after `python`.

    Its ranks are ordinary processes, to be killed, or forks.
    """
    root = new_root(tmp_path / "root", 2, {"classifiers": {"long": LONG}})
    (root / "stage.py").write_text(STAGE)
    (root / "python").write_text(f'#!/bin/sh\nshift\nexec {python} "$@"\n')  # without the -u of torch's launcher
    (root / "python").chmod(0o755)
    script = {"STAGE": str(STAGES / "train_classifier.py")}
    forking = {"FORKING_PYTHON": str(python), "PYTHON_EXEC": str(root / "python")}

    def start(*launcher: str, processes: int = 2, forks: bool = False, **variables: str) -> subprocess.Popen[str]:
        use_processes(root, processes)
        command = [str(python), *launcher, "stage.py", "long"]
        environment = ENVIRONMENT | script | variables | (forking if forks else {})
        return subprocess.Popen(
            command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


def test_a_killed_rank_is_named_in_one_error_and_training_resumes(
    run_stage: Any, run_steps: Any, tmp_path: Path
) -> None:
    weights = tmp_path / "root/models/classifiers/long/0.pt"
    run_steps(tmp_path / "root", "train_classifier@long")
    expected = weights.read_bytes()
    shutil.rmtree(weights.parent)

    stage = run_stage()
    for line in stage.stderr:
        if line.startswith("epoch 3/"):
            break
    processes = [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(tmp_path / "root")]
    rank_1 = next(one for one in processes if one.environ().get("RANK") == "1")
    rank_1.kill()
    _, said = stage.communicate()
    assert stage.returncode == 1
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("seesay: error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("seesay: error: rank 1 of 2 was killed by SIGKILL")
    assert not weights.exists()

    again = run_stage()  # code that is loaded decides what is resumed, and forks have loaded more
    _, said = again.communicate()
    assert "resuming at epoch" in said
    assert weights.read_bytes() == expected


def test_an_interruption_of_all_ranks_is_one_line(run_stage: Any) -> None:
    stage = run_stage(forks=True)
    for line in stage.stderr:
        if line.startswith("epoch 3/"):
            break
    stage.send_signal(signal.SIGINT)
    _, said = stage.communicate()
    assert stage.returncode == 130
    lines = [line for line in said.splitlines() if not line.startswith("epoch ")]
    assert len(lines) == 1, said
    assert re.fullmatch(r"seesay: interrupted at epoch \d+ of 40; run again to resume", lines[0])


def test_one_process_under_a_launcher_gives_the_plain_bytes(run_stage: Any, tmp_path: Path) -> None:
    """Under `SEESAY_LAUNCHER`, here `env`, and under torch's own launcher."""
    weights = tmp_path / "root/models/classifiers/long/0.pt"
    found = []
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    for launcher, variables in ([], {}), ([], {"SEESAY_LAUNCHER": "env LAUNCHED=yes"}), (torchrun, {}):
        stage = run_stage(*launcher, processes=1, forks=True, **variables)
        _, said = stage.communicate()
        assert stage.returncode == 0, said
        found.append(weights.read_bytes())
    assert found[0] == found[1] == found[2]


def test_an_unknown_launcher_is_one_error(run_stage: Any) -> None:
    stage = run_stage(SEESAY_LAUNCHER="no-such-launcher --gpus 4")
    _, said = stage.communicate()
    assert (stage.returncode, said) == (
        1,
        "seesay: error: SEESAY_LAUNCHER: got 'no-such-launcher': No such file or directory\n",
    )


def test_another_number_of_started_processes_is_refused(run_stage: Any) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    stage = run_stage(*torchrun, forks=True)
    _, said = stage.communicate()
    assert stage.returncode == 1
    assert "seesay: error: runtime.processes: got 2: expected 1, as many as were started" in said
