"""From a captioner to the encoder that learned on with it, to that encoder's features: the stages, without DVC."""

import importlib.util
import io
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from seesay.captioning.data.records import CaptionRecord, collect_records, read_caption_records, write_caption_records
from seesay.captioning.data.vocabulary import build_vocabulary, write_vocabulary
from seesay.captioning.features.store import read_features
from seesay.classification.networks.published import build_published
from seesay.classification.networks.registry import build_classifier
from seesay.core.errors import InputError
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.params.classification import Architecture
from seesay.sources.provenance import SourceFile, SourceNote, write_architecture, write_source
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "test_resnet"
PLAIN_CNN = Architecture(name="plain_cnn", widths=[8, 16], dropout=0.0)
TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "schedule": {"decay": "constant"},
    "max_gradient_norm": 1.0,
}
FEATURES = {"dataset": "dots", "resize_size": 36, "image_size": 32, "batch_size": 4}
LEARNING = {
    "datasets": ["dots"],
    "vocabulary": "dots",
    "features": ["first"],
    "start": ["scratch"],
    "max_caption_length": 6,
    "best_by": "cider_d",
    "training": TRAINING,
}
LSTM = {"name": "lstm", "image_enters": "initial_state"}
SOFT = {"name": "soft_attention", "attention_size": 8}


def stage(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / f"stages/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(kind: str) -> dict[str, Any]:
    """Params of one chain that starts from a published network, seen as a grid, or from a classifier, pooled."""
    encoder = f"weights/{NETWORK}" if kind == "network" else "classifiers/cnn"
    size = {"grid_size": 2 if kind == "network" else None, "num_workers": 0}
    architecture = {**(SOFT if kind == "network" else LSTM), "embedding_size": 8, "hidden_size": 8}
    named = {"captioner": "first", "dataset": "dots", "vocabulary": "dots", "features": "first", "encoder": encoder}
    return {
        "seed": 0,
        "runtime": {
            "device": "cpu", "precision": "float32", "num_threads": 1, "deterministic": True, "compile": False
        },
        "tracking": {"experiment_prefix": ""},
        "features": {
            "first": {**FEATURES, **size, "encoder": encoder},
            "second": {**FEATURES, **size, "encoder": "finetuned/tuned"},
        },
        "captioners": {"first": {"learning": {**LEARNING, "architecture": architecture}}},
        "finetuned": {
            "tuned": {
                **named, "frozen_blocks": 1, "encoder_rate": 0.5, "num_workers": 0,
                "training": {**TRAINING, "epochs": 1},
            }
        },
    }  # fmt: skip


def source_file(path: Path, *, is_substitute: bool) -> SourceFile:
    url = f"https://example.org/{path.name}"
    return SourceFile(path.name, url, file_digest(path), path.stat().st_size, "md5:0", is_substitute=is_substitute)


def prepare(root: Path) -> None:
    """Captions of coloured dots, their images, weights that are substitutes, and a classifier."""
    paths, random = Paths(root), np.random.default_rng(0)
    raw = paths.raw_captions("dots")
    raw.mkdir(parents=True)
    records = []
    with zipfile.ZipFile(raw / "images.zip", "w") as archive:
        for number in range(12):
            buffer, channel = io.BytesIO(), number % 3
            pixels = random.integers(0, 60, (40, 36, 3), dtype=np.uint8)
            pixels[:, :, channel] += 150
            Image.fromarray(pixels).save(buffer, "PNG")
            archive.writestr(f"{number}.png", buffer.getvalue())
            split = "train" if number < 6 else ("val" if number < 9 else "test")
            captions = (f"a {('red', 'green', 'blue')[channel]} dot", "a dot")
            records.append(CaptionRecord(number, f"{number}.png", "images.zip", split, captions, 36, 40))
    source = SourceNote("dots", (source_file(raw / "images.zip", is_substitute=True),))
    dots = collect_records("dots", records, source)
    write_caption_records(paths.captions("dots"), dots)
    write_vocabulary(paths.vocabulary("dots"), build_vocabulary(dots, min_count=1))

    weights = paths.weights(NETWORK) / "net.pth"
    weights.parent.mkdir(parents=True)
    torch.manual_seed(0)
    network = build_published(NETWORK)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics as after training: with the first ones nothing is left of an image
    network.train()(torch.randn(16, 3, 32, 32))
    torch.save(network.state_dict(), weights)
    write_architecture(weights.parent, NETWORK)
    write_source(weights.parent, SourceNote(NETWORK, (source_file(weights, is_substitute=True),)))
    checkpoint = Checkpoint(
        kind="classifier",
        dataset="drawings",
        dataset_digest="d" * 64,
        classes=("n0", "n1"),
        vocabulary_digest="",
        architecture=describe_architecture(PLAIN_CNN),
        sizes={"num_classes": 2, "image_size": 32},
        settings={},
        normalisation={"mean": [0.5] * 3, "std": [0.25] * 3},
        state_dict=build_classifier(PLAIN_CNN, num_classes=2, image_size=32, seed=0, key="x").state_dict(),
        metrics={"val/loss": 1.0},
    )
    save_checkpoint(paths.classifier("cnn"), checkpoint)


def test_a_captioners_own_seed_takes_the_place_of_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    prepare(tmp_path)
    params, paths = cells("classifier"), Paths(tmp_path)
    learning = params["captioners"]["first"]["learning"]

    def weights(project: int, own: int | None) -> dict[str, torch.Tensor]:
        content = params | {"seed": project}
        content["captioners"] = {"first": {"learning": learning | {"seed": own}}}
        with (tmp_path / "params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(content, file)
        stage("extract_features").main("first", tmp_path)
        stage("train_captioner").main("first", tmp_path)
        return load_checkpoint(paths.captioner("first"), kind="captioner").state_dict

    by_project, by_own, by_both, other = weights(0, None), weights(0, 0), weights(7, 0), weights(0, 7)
    torch.testing.assert_close([by_own, by_both], [by_project, by_project], rtol=0, atol=0)
    assert any(not torch.equal(value, other[name]) for name, value in by_project.items())


@pytest.mark.parametrize("kind", ["network", "classifier"])
def test_features_of_a_finetuned_encoder_differ_and_name_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    prepare(tmp_path)
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(cells(kind), file)
    extract, paths = stage("extract_features"), Paths(tmp_path)
    extract.main("first", tmp_path)
    stage("train_captioner").main("first", tmp_path)
    stage("finetune_encoder").main("tuned", tmp_path)
    extract.main("second", tmp_path)

    dots = read_caption_records(paths.captions("dots"))
    first, second = (read_features(paths.features(cell), dots) for cell in ("first", "second"))
    looks_at = "grid" if kind == "network" else "pooled"
    assert first.array(looks_at).shape == second.array(looks_at).shape
    before, after = (features.array(looks_at).astype(np.float64).ravel() for features in (first, second))
    assert 0.3 < np.corrcoef(before, after)[0, 1] < 0.9999  # it has learned on, not anew
    assert (second.index.encoder, second.index.architecture) == ("finetuned/tuned", first.index.architecture)
    assert second.index.trained_on == {"dataset": "dots", "digest": dots.digest}
    tuned, *before = second.index.weights.files
    assert (tuned.url, tuned.sha256) == (
        "generated:tuned",
        file_digest(paths.finetuned_encoder("tuned") / "encoder.pt"),
    )
    assert tuple(before[: len(first.index.weights.files)]) == first.index.weights.files
    substitutes = ["net.pth", "images.zip"] if kind == "network" else ["images.zip"]
    assert second.report()["substitutes"] == substitutes
    metrics = json.loads(paths.metrics("finetune_encoder", "tuned").read_text())
    assert {"val/cider_d", "val/loss", "train/loss", "best_epoch"} <= set(metrics)
    assert not list(paths.scratch.rglob("pixels.npy"))

    (paths.finetuned_encoder("tuned") / "encoder.pt").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"encoder.pt: .*not the weights that origin.json names; run finetune_encoder"):
        extract.main("second", tmp_path)
