"""What is released, how often it is registered, and that what is registered predicts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from tests.tracking.conftest import Project

from seesay.captioning.data.tokenizer import TOKENIZER_VERSION
from seesay.captioning.data.vocabulary import SPECIAL_TOKENS, Vocabulary, write_vocabulary
from seesay.captioning.decoding.decode import decode
from seesay.captioning.networks.registry import build_captioner, restore_captioner
from seesay.classification.networks.registry import build_classifier
from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_yaml
from seesay.params.captioning import Captioner
from seesay.params.classification import Architecture, Classifier
from seesay.params.results import Release
from seesay.sources.provenance import SourceFile, SourceNote
from seesay.tracking.recorder import record_stage
from seesay.tracking.registry import Cells, describe_release, register_models
from seesay.tracking.store import locate_store
from seesay.tracking.sync import sync
from seesay.training.checkpoint import Checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Release(prefix="demo-", classifiers=("mlp",), captioners=(), autoencoders=())
TRAINING = {
    "epochs": 1,
    "batch_size": 1,
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "schedule": {"decay": "linear"},
}
CLASSIFIER = Classifier.model_validate(
    {
        "dataset": "tiny",
        "architecture": {"name": "mlp"},
        "start": "scratch",
        "training": TRAINING,
    }
)
CELLS: Cells = {"classifiers": {"mlp": CLASSIFIER}, "autoencoders": {}, "captioners": {}}


def evaluate(root: Path, top1: float) -> None:
    measure(root, "evaluate_classifier", "mlp", {"test/top1": top1})
    report_source(root, "prepare_images", "tiny", {"official.zip": False, "mirror.zip": True})


def measure(root: Path, stage: str, cell: str, metrics: dict[str, float]) -> None:
    write_json(Paths(root).metrics(stage, cell), metrics)


def report_source(root: Path, stage: str, name: str, files: dict[str, bool]) -> None:
    """A data report; `files` says which ones are substitutes."""
    note = SourceNote("s", tuple(SourceFile(file, "u", "d", 1, "", is_sub) for file, is_sub in files.items()))
    write_json(Paths(root).data_report(stage, name), {"source": note.to_json()})


def test_nothing_is_released_behind_a_gate_that_has_not_passed(tmp_path):
    for gate in ({"passed": False}, {}, {"passed": "yes"}):
        with pytest.raises(InputError, match=r"gate\.json: passed"):
            describe_release(RELEASE, Paths(tmp_path), gate=gate, cells=CELLS)


def test_a_release_names_weights_digest_and_main_metric(workspace):
    evaluate(workspace.root, 0.75)
    assert describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS) == [
        {
            "name": "demo-classifier-mlp",
            "kind": "classifier",
            "cell": "mlp",
            "weights": "models/classifiers/mlp/0.pt",
            "sha256": hashlib.sha256(b"mlp").hexdigest(),
            "metric": "test/top1",
            "value": 0.75,
            "substitutes": ["mirror.zip"],
        }
    ]


def test_a_release_of_a_model_that_is_not_trained_is_refused(tmp_path):
    with pytest.raises(InputError, match="mlp, which is not trained"):
        describe_release(RELEASE, Paths(tmp_path), gate={"passed": True}, cells=CELLS)


def release(workspace: Project, weights: str, top1: float) -> list[dict[str, Any]]:
    """The entries that `register` writes after a training with this result, behind a passed gate."""
    evaluate(workspace.root, top1)
    Paths(workspace.root).classifier("mlp").write_text(weights)
    return describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS)


def champion(workspace: Project) -> str:
    return str(workspace.client.get_model_version_by_alias("demo-classifier-mlp", "champion").version)


def test_weights_are_registered_once_and_the_champion_follows_the_release(workspace, capsys):
    sync(workspace.root)
    first = release(workspace, "mlp", 0.75)
    assert [register_models(workspace.root, first) for _ in range(2)] == [1, 0]
    assert register_models(workspace.root, release(workspace, "better", 0.8)) == 1
    assert champion(workspace) == "2"
    said = "the new champion of demo-classifier-mlp: version 1 -> 2, test/top1 0.75 -> test/top1 0.8"
    assert capsys.readouterr().err == f"seesay: {said}\n"

    release(workspace, "mlp", 0.75)  # an old release comes back: its version is the champion again
    assert [register_models(workspace.root, first) for _ in range(2)] == [1, 0]
    said = (
        "warning: a worse model is the champion of demo-classifier-mlp: version 2 -> 1, test/top1 0.8 -> test/top1 0.75"
    )
    assert capsys.readouterr().err == f"seesay: {said}\n"
    version = workspace.client.get_model_version_by_alias("demo-classifier-mlp", "champion")
    assert str(version.version) == "1"
    assert version.tags["model.sha256"] == hashlib.sha256(b"mlp").hexdigest()
    assert len(workspace.client.search_model_versions("name = 'demo-classifier-mlp'")) == 2


def test_an_experiment_of_dvc_registers_nothing(workspace, monkeypatch, capsys):
    sync(workspace.root)
    entries = release(workspace, "mlp", 0.75)
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    assert register_models(workspace.root, entries) == 0
    assert workspace.client.search_registered_models() == []
    assert "an experiment releases no model" in capsys.readouterr().err


def test_a_sync_takes_back_no_alias_that_a_person_has_moved(workspace):
    """Nor one that another clone's release has moved."""
    sync(workspace.root)
    register_models(workspace.root, release(workspace, "mlp", 0.75))
    entries = release(workspace, "worse", 0.5)
    register_models(workspace.root, entries)
    write_json(Paths(workspace.root).release, entries)
    write_json(Paths(workspace.root).gate, {"passed": True})
    sync(workspace.root)
    workspace.client.set_registered_model_alias("demo-classifier-mlp", "champion", "1")
    assert not sync(workspace.root).changed
    assert champion(workspace) == "1"


def test_a_model_that_the_cache_has_made_a_link_is_registered(workspace):
    """So are figures: DVC's `cache.type symlink` replaces outputs by links."""
    sync(workspace.root)
    entries = release(workspace, "mlp", 0.75)
    weights, cached = Paths(workspace.root).classifier("mlp"), workspace.root / "cache/5d41402abc"
    cached.parent.mkdir()
    weights.rename(cached)
    weights.symlink_to(cached)
    assert register_models(workspace.root, entries) == 1
    package = load(workspace.root, "models:/demo-classifier-mlp@champion", download=True)
    assert (package / "artifacts/0.pt").read_text() == "mlp"


def test_a_version_names_the_substitutes_its_model_was_made_from(workspace):
    def tags() -> dict[str, str]:
        return workspace.client.get_model_version_by_alias("demo-classifier-mlp", "champion").tags

    evaluate(workspace.root, 0.75)
    sync(workspace.root)
    entries = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS)
    earlier = [{key: value for key, value in entry.items() if key != "substitutes"} for entry in entries]
    assert register_models(workspace.root, earlier) == 1  # as an earlier seesay registered it
    assert [register_models(workspace.root, entries) for _ in range(2)] == [1, 0]
    assert tags()["substitutes"] == "mirror.zip"
    report_source(workspace.root, "prepare_images", "tiny", {"official.zip": False})
    entries = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS)
    assert [register_models(workspace.root, entries) for _ in range(2)] == [1, 0]
    assert "substitutes" not in tags()


def test_sync_registers_what_the_register_stage_could_not(workspace):
    evaluate(workspace.root, 0.75)
    entries = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS)
    write_json(Paths(workspace.root).release, entries)
    assert sync(workspace.root).num_registered == 0  # no gate has passed here
    write_json(Paths(workspace.root).gate, {"passed": True})
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
    register_models(tmp_path, describe_release(RELEASE, Paths(tmp_path), gate={"passed": True}, cells=CELLS))

    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    probabilities = load(tmp_path, "models:/demo-classifier-mlp@champion").predict(images)
    normalised = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    expected = network(normalised).softmax(1).detach().numpy()
    assert np.allclose(probabilities, expected, atol=1e-6)

    example = example_of_loading(name="demo-classifier-mlp", size=8)
    monkeypatch.chdir(tmp_path)
    before, found = mlflow.get_tracking_uri(), {}
    try:
        exec(example, found)
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    black = network(torch.full((2, 3, 8, 8), -2.0)).softmax(1).detach().numpy()
    assert np.allclose(found["probabilities"], black, atol=1e-6)
    assert found["classes"] == ("n1", "n2", "n3")


def example_of_loading(*, name: str, size: int) -> str:
    """The example of docs/mlflow.md, with another model in place of the demo's."""
    document = (ROOT / "docs/mlflow.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    demo = read_yaml(ROOT / "params/demo.yaml")
    released = f"{demo['release']['prefix']}classifier-{demo['release']['classifiers'][0]}"
    shape = "{0}, {0}, 3".format(demo["image_datasets"]["scenes10"]["image_size"])
    assert (example.count(released), example.count(shape)) == (1, 1)
    return example.replace(released, name).replace(shape, f"{size}, {size}, 3")


NUCLEUS = {
    "method": "nucleus",
    "top_p": 0.9,
    "temperature": 1.0,
    "num_samples": 3,
    "max_length": 7,
    "batch_size": 2,
}
BEAM = {"method": "beam", "beam_size": 4, "length_penalty": 0.0, "max_length": 7, "batch_size": 2}


def captioner_of(decoding: dict[str, Any]) -> Captioner:
    learning = {
        "datasets": ["words"],
        "vocabulary": "words",
        "features": ["words_small"],
        "start": ["scratch"],
        "best_by": "loss",
        "architecture": {"name": "lstm"},
        "max_caption_length": 9,
        "training": TRAINING,
    }
    return Captioner.model_validate({"learning": learning, "decoding": decoding})


def test_a_registered_captioner_says_what_the_captions_measured_said(tmp_path, empty_store, monkeypatch):
    arguments = {"image_enters": "initial_state", "embedding_size": 8, "hidden_size": 8, "dropout": 0.0}
    architecture = Architecture(name="lstm", embedding_dropout=0.0, tie_weights=False, **arguments)
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *(f"word{n}" for n in range(12))), 1, TOKENIZER_VERSION, "c" * 64)
    network = build_captioner(architecture, vocabulary_size=16, feature_size=5, seed=0, key="architecture").eval()
    with torch.no_grad():
        for weights in network.parameters():  # enough for beams to differ from the greedy choice
            weights.mul_(4)
    checkpoint = Checkpoint(
        kind="captioner",
        dataset="words",
        dataset_digest="d",
        classes=(),
        vocabulary_digest=vocabulary.digest,
        architecture={"name": "lstm", "arguments": architecture.arguments},
        sizes={"vocabulary_size": 16, "feature_size": 5},
        settings={"vocabulary": "words", "features": ["words_small"], "max_caption_length": 9},
        normalisation={},
        state_dict=dict(network.state_dict()),
        metrics={},
    )
    paths = Paths(tmp_path)
    shutil.copytree(empty_store, tmp_path / "mlruns")
    (tmp_path / "dvc.yaml").write_text("stages: {train_captioner: {foreach: [lstm], do: {cmd: train}}}")
    (tmp_path / "dvc.lock").write_text("stages: {train_captioner@lstm: {cmd: train}}")
    write_vocabulary(paths.vocabulary("words"), vocabulary)
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    with record_stage(tmp_path, "train_captioner", "lstm", params={"vocabulary": "words"}) as log:
        save_checkpoint(paths.captioner("lstm"), checkpoint)
        log.model(paths.captioner("lstm"))
    monkeypatch.delenv("SEESAY_TRACKING")
    sync(tmp_path)
    measure(tmp_path, "score_captions", "lstm", {"test/cider_d": 0.5})
    report_source(tmp_path, "prepare_captions", "words", {"text.zip": True, "images.zip": False})
    report_source(tmp_path, "extract_features", "words_small", {"weights.pth": True})

    pooled = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float16)
    released = Release(prefix="demo-", classifiers=(), captioners=("lstm",), autoencoders=())
    client = Project(tmp_path).client

    def release(captioner: Captioner) -> tuple[str, list[str]]:
        """Which version is the champion now, and what the captions measured would be."""
        cells: Cells = {"classifiers": {}, "autoencoders": {}, "captioners": {"lstm": captioner}}
        entries = describe_release(released, paths, gate={"passed": True}, cells=cells)
        assert entries[0]["substitutes"] == ["text.zip", "weights.pth"]
        assert [register_models(tmp_path, entries) for _ in range(2)] == [1, 0]
        version = client.get_model_version_by_alias("demo-captioner-lstm", "champion")
        assert version.tags["substitutes"] == "text.zip, weights.pth"
        assert json.loads(version.tags["decoding"]) == captioner.decoding.model_dump(
            exclude={"batch_size"}, exclude_none=True
        )
        found = decode(restore_captioner(checkpoint), torch.from_numpy(pooled), captioner.decoding, seed=0)
        return str(version.version), [" ".join(vocabulary.decode(captions[0].token_ids)) for captions in found]

    beams = release(captioner_of(BEAM))
    greedy = release(captioner_of({"method": "greedy", "max_length": 3, "batch_size": 2}))
    diverse = release(captioner_of({**BEAM, "method": "diverse_beam", "num_groups": 2, "diversity_penalty": 0.5}))
    drawn = release(captioner_of(NUCLEUS))
    longer = release(captioner_of({"method": "greedy", "max_length": 7, "batch_size": 2}))
    assert beams[1] != longer[1]  # the test can tell them apart
    assert release(captioner_of(BEAM))[0] == beams[0] == "1"  # the earlier way of decoding is released again
    for version, expected in (beams, greedy, diverse, drawn):
        assert load(tmp_path, f"models:/demo-captioner-lstm/{version}").predict(pooled.astype(np.float32)) == expected


def load(root: Path, uri: str, *, download: bool = False) -> Any:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(locate_store(root).uri)
    try:
        return Path(mlflow.artifacts.download_artifacts(uri)) if download else mlflow.pyfunc.load_model(uri)
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow has set it
