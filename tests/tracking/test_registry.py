"""What is released, how often it is registered, and that what is registered predicts."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from seesay.errors import InputError
from seesay.files import write_json
from seesay.models.checkpoint import Checkpoint, save_checkpoint
from seesay.models.classifiers import build_classifier
from seesay.params.experiments import Architecture
from seesay.params.results import Release
from seesay.paths import Paths
from seesay.tracking.recorder import record_stage
from seesay.tracking.registry import describe_release, register_models
from seesay.tracking.store import locate_store
from seesay.tracking.sync import sync


def evaluate(root: Path, top1: float) -> None:
    path = Paths(root).metrics("evaluate_classifier", "mlp")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"test/top1": {top1}}}')


RELEASE = Release(prefix="demo-", classifiers=("mlp",), captioners=(), autoencoders=())


def test_nothing_is_released_behind_a_gate_that_has_not_passed(tmp_path):
    for gate in ({"passed": False}, {}, {"passed": "yes"}):
        with pytest.raises(InputError, match=r"gate\.json: passed"):
            describe_release(RELEASE, Paths(tmp_path), gate=gate)


def test_a_release_names_weights_digest_and_main_metric(workspace):
    evaluate(workspace.root, 0.75)
    assert describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}) == [
        {
            "name": "demo-classifier-mlp",
            "kind": "classifier",
            "cell": "mlp",
            "weights": "models/classifiers/mlp.pt",
            "sha256": hashlib.sha256(b"mlp").hexdigest(),
            "metric": "test/top1",
            "value": 0.75,
        }
    ]


def test_a_release_of_a_model_that_is_not_trained_is_refused(tmp_path):
    with pytest.raises(InputError, match="mlp, which is not trained"):
        describe_release(RELEASE, Paths(tmp_path), gate={"passed": True})


def test_weights_are_registered_once_and_the_champion_follows_the_release(workspace):
    evaluate(workspace.root, 0.75)
    sync(workspace.root)
    first = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True})
    assert [register_models(workspace.root, first) for _ in range(2)] == [1, 0]

    weights = Paths(workspace.root).classifier("mlp")
    weights.write_text("better")
    second = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True})
    assert register_models(workspace.root, second) == 1
    client = workspace.client
    assert (
        client.get_model_version_by_alias("demo-classifier-mlp", "champion").tags["dvc.path"]
        == "models/classifiers/mlp.pt"
    )
    assert str(client.get_model_version_by_alias("demo-classifier-mlp", "champion").version) == "2"

    weights.write_text("mlp")  # an old release comes back: its version is the champion again
    assert [register_models(workspace.root, first) for _ in range(2)] == [1, 0]
    champion = client.get_model_version_by_alias("demo-classifier-mlp", "champion")
    assert str(champion.version) == "1"
    assert champion.tags["model.sha256"] == hashlib.sha256(b"mlp").hexdigest()
    assert len(client.search_model_versions("name = 'demo-classifier-mlp'")) == 2


def test_sync_registers_what_the_register_stage_could_not(workspace):
    evaluate(workspace.root, 0.75)
    entries = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True})
    write_json(Paths(workspace.root).release, entries)
    assert sync(workspace.root).num_registered == 1
    assert not sync(workspace.root).changed


def test_a_registered_classifier_gives_the_probabilities_of_its_network(tmp_path, empty_store, monkeypatch):
    architecture = Architecture(name="mlp", hidden_sizes=[4], dropout=0.0)
    network = build_classifier(architecture, num_classes=3, image_size=8, seed=0, key="architecture").eval()
    checkpoint = Checkpoint(
        kind="classifier",
        dataset="tiny",
        dataset_digest="d",
        classes=("n1", "n2", "n3"),
        vocabulary_digest="",
        architecture={"name": "mlp", "arguments": architecture.arguments},
        sizes={"num_classes": 3, "image_size": 8},
        settings={},
        normalisation={"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        state_dict=dict(network.state_dict()),
        metrics={},
    )
    shutil.copytree(empty_store, tmp_path / "mlruns")
    (tmp_path / "dvc.yaml").write_text("stages: {train_classifier: {foreach: [mlp], do: {cmd: train}}}")
    (tmp_path / "dvc.lock").write_text("stages: {train_classifier@mlp: {cmd: train}}")
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    with record_stage(tmp_path, "train_classifier", "mlp", params={}) as log:
        save_checkpoint(Paths(tmp_path).classifier("mlp"), checkpoint)
        log.model(Paths(tmp_path).classifier("mlp"))
    monkeypatch.delenv("SEESAY_TRACKING")
    evaluate(tmp_path, 0.75)
    sync(tmp_path)
    register_models(tmp_path, describe_release(RELEASE, Paths(tmp_path), gate={"passed": True}))

    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(locate_store(tmp_path).uri)
    try:
        model = mlflow.pyfunc.load_model("models:/demo-classifier-mlp@champion")
        probabilities = model.predict(images)
    finally:
        mlflow.set_tracking_uri(before)
    normalised = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    expected = network(normalised).softmax(1).detach().numpy()
    assert np.allclose(probabilities, expected, atol=1e-6)
