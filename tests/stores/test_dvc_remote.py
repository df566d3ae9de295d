"""A DVC remote on S3: results are pushed, and a fresh clone pulls a released model and predicts without training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.fixtures.files import plain_image
from tests.stores.conftest import AWS, BUCKET, S3_SECRET, ObjectStore, files_below, leaks, needs
from tests.tracking.conftest import Project

from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.params.classification import Architecture
from seesay.proving import tiny_data
from seesay.serving.bundle import model_card, write_bundle
from seesay.serving.gather import gather_bundle

PIPELINE = """
stages:
  train_classifier:
    foreach: [resnet9]
    do:
      cmd: cp -r ${trained}/models/classifiers/${item} models/classifiers/
      outs: ['models/classifiers/${item}']
  register:
    cmd: cp -r ${trained}/models/released models/
    deps: [models/classifiers]
    outs: [models/released]
"""


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder with a tiny classifier and its bundle, as training and `register` make them."""
    root = tmp_path / "trained"
    paths = Paths(root)
    tiny_data.write_classifier(
        paths, "resnet9", Architecture(name="resnet9", width=4), tiny_data.write_images(paths, "tiny")
    )
    scores = {"test/top1": 0.5, "test/top1_low": 0.4, "test/top1_high": 0.6, "calibration/temperature": 2.0}
    write_json(paths.metrics("evaluate_classifier", "resnet9"), scores)
    bundle = gather_bundle(root, "classifiers", "resnet9")
    write_bundle(paths.released / "seesay-classifier-resnet9", bundle, model_card(bundle.config))
    return root


def test_a_fresh_clone_pulls_a_released_model_and_predicts(
    s3: ObjectStore, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials are those of config.local here and of the environment there; they reach no other file."""
    needs("dvc_s3")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    outputs: dict[str, bytes] = {}

    def run(project: Project, *command: str, check: bool = True) -> str:
        done = project.run(*command, check=check)
        outputs[f"{len(outputs)}: {command[:5]}"] = (done.stdout + done.stderr).encode()
        return done.stdout + done.stderr

    def dvc(project: Project, *arguments: str, check: bool = True) -> str:
        return run(project, sys.executable, "-m", "dvc", *arguments, check=check)

    first, clone = Project(tmp_path / "first"), Project(tmp_path / "clone")
    (first.root / "models/classifiers").mkdir(parents=True)
    (first.root / "dvc.yaml").write_text(PIPELINE)
    (first.root / "params.yaml").write_text(f"trained: {trained}\n")
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(plain_image(7, size=(40, 30)))
    run(first, "git", "init", "-q")
    dvc(first, "init", "-q")
    dvc(first, "remote", "add", "-d", "storage", f"s3://{BUCKET}/dvc")
    dvc(first, "remote", "modify", "storage", "endpointurl", s3.url)
    dvc(first, "remote", "modify", "--local", "storage", "access_key_id", AWS["AWS_ACCESS_KEY_ID"])
    first.run(sys.executable, "-m", "dvc", "remote", "modify", "--local", "storage", "secret_access_key", S3_SECRET)
    dvc(first, "repro", "-q")
    run(first, "git", "add", "-A")
    run(first, "git", "commit", "-q", "-m", "released")
    assert "pushed" in dvc(first, "push")
    expected = run(first, sys.executable, "-m", "seesay.cli", "predict", str(picture), "--json", "-")

    run(first, "git", "clone", "-q", ".", str(clone.root))
    assert "credentials" in dvc(clone, "pull", "register", check=False)
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    assert not (clone.root / "models/released").exists()
    dvc(clone, "pull", "register")
    assert not (clone.root / "models/classifiers/resnet9").exists()
    answer = run(clone, sys.executable, "-m", "seesay.cli", "predict", str(picture), "--json", "-")
    assert json.loads(answer) == json.loads(expected)
    assert not (clone.root / "runs").exists()

    files = {**files_below(first.root), **files_below(clone.root)}
    assert leaks(files) == [str(first.root / ".dvc/config.local")]
    history = run(clone, "git", "log", "-p", "--all")
    assert "models/released" in history
    stored = s3.objects("dvc/")
    assert any(b"resnet9" in content for content in stored.values())
    assert leaks({**outputs, **stored}) == []
