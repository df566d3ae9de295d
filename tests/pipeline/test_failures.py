"""Failures of the real stage scripts: one clear error or warning, and no half-written output."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from seesay.core.stage import ADDRESS_FILE, LOCK_FILE

RunStage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def prepared(new_workspace: Callable[..., Any]) -> Any:
    workspace = new_workspace(tracking=False)
    done = workspace.repro("prepare_images", "build_vocabulary", "fetch_weights")
    assert done.status == 0, done.output
    return workspace


@pytest.fixture
def root(prepared: Any, tmp_path: Path) -> Path:
    """A copy of the prepared workspace that a test may damage."""
    copy = tmp_path / "workspace"
    shutil.copytree(prepared.root, copy, ignore=shutil.ignore_patterns(".dvc"))
    for path in copy.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    return copy


@pytest.fixture
def run_stage(prepared: Any) -> RunStage:
    def run(root: Path, stage: str, cell: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(prepared.python / "python"), f"stages/{stage}.py", cell]
        environment = prepared.environment | variables
        return subprocess.run(command, cwd=root, env=environment, text=True, capture_output=True, check=False)

    return run


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a stage's only error: one line, or one line and a second one with the affected files."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("seesay: error: ")]
    assert 1 <= len(lines) <= 2, done.stderr
    return "\n".join(lines)


def rewrite_zip(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            changed = change(name, content)
            if changed is not None:
                archive.writestr(name, changed)


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_a_corrupt_zip_is_named_and_nothing_is_written(root: Path, run_stage: RunStage) -> None:
    archive = only(root / "data/raw/images/scenes", "*.zip")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    shutil.rmtree(root / "data/images")
    assert archive.name in one_error(run_stage(root, "prepare_images", "scenes10"))
    assert not (root / "data/images/scenes10").exists()


def test_a_truncated_jpeg_is_named_and_nothing_is_written(root: Path, run_stage: RunStage) -> None:
    cut: list[str] = []

    def truncate(name: str, content: bytes) -> bytes:
        if name.lower().endswith((".jpeg", ".jpg")) and not cut:
            cut.append(name)
            return content[: len(content) // 2]
        return content

    rewrite_zip(only(root / "data/raw/images/scenes", "*.zip"), truncate)
    source = root / "data/raw/images/scenes/source.json"
    note = json.loads(source.read_text())
    archive = only(root / "data/raw/images/scenes", "*.zip")
    note["files"][0]["sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    note["files"][0]["num_bytes"] = archive.stat().st_size
    source.write_text(json.dumps(note))
    shutil.rmtree(root / "data/images")
    assert cut[0].rsplit("/", 1)[-1] in one_error(run_stage(root, "prepare_images", "scenes10"))
    assert not (root / "data/images/scenes10").exists()


def test_an_annotation_for_a_missing_image_is_named_and_nothing_is_written(root: Path, run_stage: RunStage) -> None:
    dropped: list[str] = []

    def drop_first(name: str, content: bytes) -> bytes | None:
        if name.endswith(".jpg") and not dropped:
            dropped.append(name)
            return None
        return content

    rewrite_zip(root / "data/raw/captions/scenes/train2017.zip", drop_first)
    shutil.rmtree(root / "data/captions")
    assert dropped[0].rsplit("/", 1)[-1] in one_error(run_stage(root, "prepare_captions", "scenes"))
    assert not (root / "data/captions/scenes").exists()


def test_an_empty_caption_beyond_the_limit_is_refused(root: Path, run_stage: RunStage) -> None:
    """No output is written."""

    def empty_first(name: str, content: bytes) -> bytes:
        if not name.endswith("captions_train2017.json"):
            return content
        annotations = json.loads(content)
        annotations["annotations"][0]["caption"] = "  \n"
        return json.dumps(annotations).encode()

    rewrite_zip(root / "data/raw/captions/scenes/annotations_trainval2017.zip", empty_first)
    shutil.rmtree(root / "data/captions")
    error = one_error(run_stage(root, "prepare_captions", "scenes"))
    assert "caption_datasets.scenes.limits.max_empty_captions" in error
    assert not (root / "data/captions/scenes").exists()


def test_an_output_folder_that_cannot_be_made_is_named(root: Path, run_stage: RunStage) -> None:
    """A file blocks the folder. Permissions would not do, since CI may run as root, which they do not stop."""
    shutil.rmtree(root / "data/images")
    (root / "data/images").write_text("in the way")
    assert "data/images" in one_error(run_stage(root, "prepare_images", "scenes10"))
    assert (root / "data/images").read_text() == "in the way"


def test_a_folder_that_may_not_be_written_is_named(root: Path, run_stage: RunStage) -> None:
    shutil.rmtree(root / "models", ignore_errors=True)
    (root / "models").mkdir()
    (root / "models").chmod(0o500)
    if os.access(root / "models", os.W_OK):
        subprocess.run(["chattr", "+i", root / "models"], check=False, capture_output=True)
    try:
        (root / "models/probe").touch()
        pytest.skip("nothing here can be made unwritable: root without file attributes")
    except OSError:
        assert "models" in one_error(run_stage(root, "train_classifier", "mlp"))
        assert list((root / "models").iterdir()) == []
    finally:
        subprocess.run(["chattr", "-i", root / "models"], check=False, capture_output=True)
        (root / "models").chmod(0o700)


@pytest.fixture
def full_disk(root: Path) -> Iterator[Callable[[str], Path]]:
    mounted: list[Path] = []

    def mount(folder: str) -> Path:
        place = root / folder
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
        if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small tmpfs needs root on Linux")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("folder", "stage", "cell"),
    [
        ("data/images", "prepare_images", "scenes10"),
        ("models/classifiers", "train_classifier", "mlp"),
        (".work", "train_classifier", "mlp"),
    ],
    ids=["packed images", "checkpoint", "training state"],
)
def test_a_full_disk_is_one_error_and_leaves_nothing(
    root: Path, run_stage: RunStage, full_disk: Callable[[str], Path], folder: str, stage: str, cell: str
) -> None:
    place = full_disk(folder)
    error = one_error(run_stage(root, stage, cell))  # the message is numpy's or the system's
    assert "No space left on device" in error or "cannot be written whole" in error
    assert folder in error
    assert [path for path in place.rglob("*") if path.is_file() and path.name not in (ADDRESS_FILE, LOCK_FILE)] == []
    assert not (root / f"runs/{stage}/{cell}.json").exists() or stage == "prepare_images"


def test_a_tracking_server_that_is_down_costs_one_warning(root: Path, run_stage: RunStage) -> None:
    done = run_stage(
        root, "train_classifier", "mlp", SEESAY_TRACKING="on", MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="1", SEESAY_TRACKING_TIMEOUT="8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("seesay: warning") == 1, done.stderr
    assert (root / "models/classifiers/mlp/0.pt").is_file()
    assert (root / "metrics/train_classifier/mlp.json").is_file()
    assert json.loads((root / "runs/train_classifier/mlp.json").read_text())["run_id"] is None


def test_a_mirror_without_the_file_and_no_network_is_one_error(root: Path, run_stage: RunStage, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "SHA256SUMS").write_text("")
    params = (root / "params.yaml").read_text()
    assert "scenes" in params
    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(params)
    archive = {"url": "http://127.0.0.1:9/tiny-imagenet-200.zip", "checksum": "md5:" + "0" * 32}
    content["image_sources"]["scenes"] = {"kind": "tiny_imagenet", "archives": [archive]}
    with (root / "params.yaml").open("w") as file:
        yaml.dump(content, file)
    shutil.rmtree(root / "data/raw/images/scenes")
    error = one_error(run_stage(root, "fetch_images", "scenes", MIRROR=str(mirror)))
    assert "tiny-imagenet-200.zip" in error
    assert not list((root / "data/raw/images").rglob("*.zip"))
