"""What is released, how often it is registered, and that what is registered predicts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import mlflow
import pytest
from tests.tracking.conftest import Project

from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.params.classification import Classifier
from seesay.params.results import Release
from seesay.sources.provenance import SourceFile, SourceNote, write_source
from seesay.tracking.registry import Cells, describe_release, register_models, weights_behind
from seesay.tracking.store import locate_store
from seesay.tracking.sync import sync

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
    write_json(Paths(root).released / "demo-classifier-mlp/config.json", {"top1": top1})  # as if `register` had run
    report_source(root, "prepare_images", "tiny", {"official.zip": False, "mirror.zip": True})


def measure(root: Path, stage: str, cell: str, metrics: dict[str, float]) -> None:
    write_json(Paths(root).metrics(stage, cell), metrics)


def report_source(root: Path, stage: str, name: str, files: dict[str, bool]) -> None:
    """A data report; `files` says which ones are substitutes."""
    note = SourceNote("s", tuple(SourceFile(file, "u", "d", 1, "", is_sub) for file, is_sub in files.items()))
    write_json(Paths(root).data_report(stage, name), {"source": note.to_json(), "digest": f"digest of {name}"})


def test_nothing_is_released_behind_a_gate_that_has_not_passed(tmp_path):
    for gate in ({"passed": False}, {}, {"passed": "yes"}):
        with pytest.raises(InputError, match=r"gate\.json: passed"):
            describe_release(RELEASE, Paths(tmp_path), gate=gate, cells=CELLS)


def test_a_release_names_weights_digest_and_main_metric(workspace):
    evaluate(workspace.root, 0.75)
    assert describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS) == [
        {
            "name": "demo-classifier-mlp",
            "bundle": "models/released/demo-classifier-mlp",
            "kind": "classifier",
            "cell": "mlp",
            "weights": "models/classifiers/mlp/0.pt",
            "sha256": hashlib.sha256(b"mlp").hexdigest(),
            "metric": "test/top1",
            "value": 0.75,
            "data": "digest of tiny",
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

    release(workspace, "mlp", 0.75)  # an old release comes back: the better one stays champion
    assert [register_models(workspace.root, first) for _ in range(2)] == [0, 0]
    said = "version 1 of demo-classifier-mlp is worse than the champion, which stays version 2: "
    assert capsys.readouterr().err == f"seesay: {said}test/top1 0.8 -> test/top1 0.75\n"
    version = workspace.client.get_model_version_by_alias("demo-classifier-mlp", "champion")
    assert str(version.version) == "2"
    assert version.tags["model.sha256"] == hashlib.sha256(b"better").hexdigest()
    assert "The classifier `mlp`, released behind a passed gate: test/top1 0.8 on test data." in version.description
    assert len(workspace.client.search_model_versions("name = 'demo-classifier-mlp'")) == 2


def test_values_of_different_metrics_are_not_compared(workspace, capsys):
    sync(workspace.root)
    register_models(workspace.root, release(workspace, "mlp", 0.75))
    (entry,) = release(workspace, "another", 0.5)
    assert register_models(workspace.root, [{**entry, "metric": "test/balanced_accuracy"}]) == 1
    assert champion(workspace) == "2"
    assert "the new champion of demo-classifier-mlp: version 1 -> 2" in capsys.readouterr().err


def test_values_on_different_data_are_not_compared(workspace, capsys):
    sync(workspace.root)
    for digest, cell, value in (("old", "mlp", 0.75), ("new", "another", 0.5), ("new", "third", 0.4)):
        (entry,) = release(workspace, cell, value)
        register_models(workspace.root, [{**entry, "data": digest}])
    assert champion(workspace) == "2"
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("version 1 -> 2, test/top1 0.75 -> test/top1 0.5 on other data")
    assert "version 3 of demo-classifier-mlp is worse than the champion, which stays version 2" in second


def test_a_value_that_is_no_number_does_not_become_the_champion(workspace, capsys):
    sync(workspace.root)
    register_models(workspace.root, release(workspace, "mlp", 0.75))
    register_models(workspace.root, release(workspace, "another", float("nan")))
    assert champion(workspace) == "1"
    assert "version 2 of demo-classifier-mlp is worse than the champion" in capsys.readouterr().err


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
    entries = release(workspace, "better", 0.8)
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
    paths = Paths(workspace.root)
    for number, path in enumerate((paths.classifier("mlp"), paths.released / "demo-classifier-mlp/config.json")):
        cached = workspace.root / f"cache/{number}"
        cached.parent.mkdir(exist_ok=True)
        path.rename(cached)
        path.symlink_to(cached)
    assert register_models(workspace.root, entries) == 1
    config = load(workspace.root, "models:/demo-classifier-mlp@champion") / "artifacts/bundle/config.json"
    assert config.read_text() == '{\n  "top1": 0.75\n}\n'
    assert not config.is_symlink()


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


def test_published_weights_count_as_files_that_a_model_was_made_from(workspace):
    """Also those of the classifier that an autoencoder's backbone comes from."""
    paths = Paths(workspace.root)
    write_source(paths.weights("net"), SourceNote("net", (SourceFile("net.pth", "u", "d", 1, "", True),)))
    architecture = {"name": "pretrained", "network": "tf_efficientnet_lite0", "input_size": 64}
    pretrained = Classifier.model_validate(
        {"dataset": "tiny", "architecture": architecture, "start": "weights/net", "training": TRAINING}
    )
    ensemble = pretrained.model_copy(update={"start": "classifiers/mlp"})
    evaluate(workspace.root, 0.75)
    (entry,) = describe_release(
        RELEASE, paths, gate={"passed": True}, cells={**CELLS, "classifiers": {"mlp": pretrained}}
    )
    assert entry["substitutes"] == ["mirror.zip", "net.pth"]
    assert [note.name for note in weights_behind(ensemble, {"mlp": pretrained}, paths)] == ["net"]
    assert weights_behind(CLASSIFIER, {"mlp": pretrained}, paths) == []


def test_sync_registers_what_the_register_stage_could_not(workspace):
    evaluate(workspace.root, 0.75)
    entries = describe_release(RELEASE, Paths(workspace.root), gate={"passed": True}, cells=CELLS)
    write_json(Paths(workspace.root).release, entries)
    assert sync(workspace.root).num_registered == 0  # no gate has passed here
    write_json(Paths(workspace.root).gate, {"passed": True})
    assert sync(workspace.root).num_registered == 1
    assert not sync(workspace.root).changed


def load(root: Path, uri: str) -> Path:
    """Download a registered model; return the folder of its package."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(locate_store(root).uri)
    try:
        return Path(mlflow.artifacts.download_artifacts(uri))
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow has set it
