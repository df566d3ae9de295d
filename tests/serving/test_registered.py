"""Registered models take images as people have them, through MLflow's functions, its server and `seesay.load`."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server

import seesay
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section, read_yaml
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner
from seesay.params.results import Release
from seesay.proving.cases import RESNET9
from seesay.proving.running import untracked
from seesay.serving.bundle import model_card, write_bundle
from seesay.serving.gather import gather_bundle
from seesay.sources.provenance import SourceNote
from seesay.tracking.recorder import record_stage
from seesay.tracking.registry import describe_release, register_models
from seesay.tracking.store import locate_store
from seesay.tracking.sync import sync

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Release(prefix="try-", classifiers=("resnet9",), captioners=("on_grid",), autoencoders=("conv",))


@pytest.fixture(scope="module")
def registered(trained: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace whose models are registered in its own store."""
    root = tmp_path_factory.mktemp("registered") / "workspace"
    shutil.copytree(trained, root)
    shutil.copytree(empty_store, root / "mlruns")
    paths = Paths(root)
    cells = {"train_classifier": "resnet9", "train_captioner": "on_grid", "train_autoencoder": "conv"}
    stages = {stage: {"foreach": [cell], "do": {"cmd": "train"}} for stage, cell in cells.items()}
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    locked = {f"{stage}@{cell}": {"cmd": "train"} for stage, cell in cells.items()}
    (root / "dvc.lock").write_text(json.dumps({"stages": locked}))
    with untracked():
        for stage, cell in cells.items():
            with record_stage(root, stage, cell, params={}):
                pass
    sync(root)
    write_json(paths.metrics("score_captions", "on_grid"), {"test/cider_d": 0.5})
    write_json(paths.metrics("evaluate_autoencoder", "conv"), {"test/psnr": 20.0})
    note = {"source": SourceNote("s", ()).to_json()}
    for stage, name in (("prepare_images", "tiny"), ("prepare_captions", "dots"), ("extract_features", "published")):
        write_json(paths.data_report(stage, name), note)
    classifier = {"dataset": "tiny", "architecture": RESNET9, "start": "scratch"}
    experiments = {
        "classifiers": {"resnet9": Autoencoder.model_construct(**classifier)},
        "autoencoders": {"conv": Autoencoder.model_construct(**classifier)},
        "captioners": {"on_grid": read_section(root, "captioners.on_grid", Captioner)},
    }
    entries = describe_release(RELEASE, paths, gate={"passed": True}, cells=experiments)
    with atomic_directory(paths.released) as released:
        for entry in entries:
            bundle = gather_bundle(root, f"{entry['kind']}s", entry["cell"])
            write_bundle(released / entry["name"], bundle, model_card(bundle.config))
    assert register_models(root, entries) == 3
    assert register_models(root, entries) == 0
    return root


@pytest.fixture
def tracking(registered: Path) -> Iterator[Path]:
    """MLflow looks into the workspace's store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(locate_store(registered).uri)
    yield registered
    mlflow.set_tracking_uri(before)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow has set it


def table(pictures: list[Path]) -> pd.DataFrame:
    return pd.DataFrame({"image": [path.read_bytes() for path in pictures]})


def test_a_registered_classifier_names_what_files_show(tracking, trained, pictures):
    model = mlflow.pyfunc.load_model("models:/try-classifier-resnet9@champion")
    expected = seesay.load(trained / "models/classifiers/resnet9")(pictures, top=3)
    found = model.predict(table(pictures), params={"top": 3})
    assert found["label"].tolist() == [one[0].label for one in expected]
    assert found["labels"].tolist() == [[each.label for each in one] for one in expected]
    assert found["probabilities"].tolist() == [[each.score for each in one] for one in expected]
    assert len(model.predict(table(pictures))["labels"][0]) == 5
    assert model.metadata.signature.inputs.input_names() == ["image"]
    assert len(model.predict(model.input_example)) == 1


def test_a_registered_captioner_and_autoencoder_answer_too(tracking, trained, pictures):
    captioner = mlflow.pyfunc.load_model("models:/try-captioner-on_grid@champion")
    expected = seesay.load(trained / "models/captioners/on_grid")(pictures, num_captions=2)
    found = captioner.predict(table(pictures), params={"num_captions": 2})
    assert found["caption"].tolist() == [one[0].text for one in expected]
    assert found["captions"].tolist() == [[each.text for each in one] for one in expected]
    autoencoder = mlflow.pyfunc.load_model("models:/try-autoencoder-conv@champion")
    (png,) = autoencoder.predict(table(pictures[:1]))["image"]
    assert png.startswith(b"\x89PNG")


def test_the_server_of_mlflow_answers_images_as_base64(tracking, trained, pictures):
    model = mlflow.pyfunc.load_model("models:/try-classifier-resnet9@champion")
    client = TestClient(scoring_server.init(model), raise_server_exceptions=False)
    rows = [[base64.b64encode(path.read_bytes()).decode()] for path in pictures]
    asked = {"dataframe_split": {"columns": ["image"], "data": rows}, "params": {"top": 2}}
    answer = client.post("/invocations", json=asked)
    assert answer.status_code == 200, answer.text
    expected = seesay.load(trained / "models/classifiers/resnet9")(pictures, top=2)
    assert [row["labels"] for row in answer.json()["predictions"]] == [[x.label for x in one] for one in expected]
    asked["dataframe_split"]["data"] = [["bm8gcGljdHVyZQ=="]]
    assert client.post("/invocations", json=asked).status_code in (400, 500)


def test_a_registered_model_is_loaded_by_its_address(registered, trained, pictures, monkeypatch, tmp_path):
    monkeypatch.chdir(registered)
    model = seesay.load("models:/try-captioner-on_grid@champion")
    assert model(pictures) == seesay.load(trained / "models/captioners/on_grid")(pictures)
    with pytest.raises(InputError, match="models:/no@champion: not found in MLflow's registry"):
        seesay.load("models:/no@champion")
    with pytest.raises(InputError, match="models:/x: expected models:/<name>@<alias>"):
        seesay.load("models:/x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"mlflow\.db: no such file: no model is registered here"):
        seesay.load("models:/try-captioner-on_grid@champion")
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_the_document_runs(tracking, monkeypatch, capsys):
    """With a model of the test in place of the demo's."""
    document = (ROOT / "docs/mlflow.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    demo = read_yaml(ROOT / "params/demo.yaml")
    released = f"{demo['release']['prefix']}classifier-{demo['release']['classifiers'][0]}"
    assert example.count(released) == 1
    shutil.copytree(ROOT / "docs/images", tracking / "docs/images", dirs_exist_ok=True)
    monkeypatch.chdir(tracking)
    exec(example.replace(released, "try-classifier-resnet9"), {})
    assert capsys.readouterr().out.strip() in ("red", "green", "blue", "yellow", "purple", "grey")
