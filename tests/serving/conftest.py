"""A workspace with trained models of every kind: random weights, as if stages had written them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from seesay.autoencoding.networks.registry import build_autoencoder
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.captioning.features.store import read_index
from seesay.captioning.networks.registry import build_captioner, ensemble_of
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.params.classification import Architecture
from seesay.proving import tiny_data
from seesay.proving.cases import COMMON
from seesay.proving.running import load_stage, untracked
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint

STAGES = Path(__file__).resolve().parents[2] / "stages"
NETWORK = "test_efficientnet"

FEATURES: dict[str, dict[str, Any]] = {
    "fixed": {"encoder": "weights/small_cnn", "num_components": 6},
    "published": {"encoder": f"weights/{NETWORK}", "grid_size": 2},
    "of_classifier": {"encoder": "classifiers/resnet9", "grid_size": 2},
    "finetuned": {"encoder": "finetuned/tuned", "grid_size": 2},
}

BEAM = {"method": "beam", "beam_size": 3, "length_penalty": 0.7, "max_length": 8, "batch_size": 5}
LSTM = {"name": "lstm", "image_enters": "initial_state", "embedding_size": 8, "hidden_size": 8, "dropout": 0.0}
ATTENTION = {"name": "soft_attention", "embedding_size": 8, "hidden_size": 8, "attention_size": 6, "dropout": 0.0}
TRANSFORMER = {"name": "transformer", "hidden_size": 8, "num_layers": 2, "num_heads": 2, "dropout": 0.0}

CAPTIONERS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "on_vectors": (LSTM, "fixed", {"method": "greedy", "max_length": 8, "batch_size": 5}),
    "on_grid": (ATTENTION, "published", BEAM),
    "on_classifier": (TRANSFORMER, "of_classifier", {**BEAM, "rerank": "consensus"}),
    "on_finetuned": (ATTENTION, "finetuned", {**BEAM, "method": "diverse_beam", "beam_size": 4, "num_groups": 2,
                                              "diversity_penalty": 0.5}),
}  # fmt: skip
"""Architecture, features and decoding of each captioner; `ensemble` has the first two as members."""

TRAINING = {
    "epochs": 1,
    "batch_size": 1,
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "schedule": {"decay": "linear"},
}


def learning(features: list[str], architecture: dict[str, Any], start: list[str]) -> dict[str, Any]:
    settings = {"datasets": ["dots"], "vocabulary": "dots", "features": features, "start": start}
    return {**settings, "architecture": architecture, "max_caption_length": 9, "best_by": "loss", "training": TRAINING}


@pytest.fixture(scope="session")
def trained(made_once: Callable[..., Path]) -> Path:
    """The workspace's root. Tests must not change it."""
    return made_once("trained", write_models)


def write_models(root: Path) -> None:
    paths = Paths(root)
    images = tiny_data.write_images(paths, "tiny")
    tiny_data.write_classifier(paths, "resnet9", Architecture(name="resnet9", width=4), images)
    metrics = {"test/top1": 0.5, "test/top1_low": 0.4, "test/top1_high": 0.6, "calibration/temperature": 2.0}
    write_json(paths.metrics("evaluate_classifier", "resnet9"), metrics)
    for network in ("small_cnn", NETWORK):
        tiny_data.write_weights(paths, network)
    dots, lines = (tiny_data.write_captions(paths, name) for name in ("dots", "lines"))
    tiny_data.write_vocabularies(paths, dots, lines)
    tiny_data.write_finetuned_encoder(paths, "tuned", NETWORK, dots)
    common = {"dataset": "dots", "image_size": 32, "resize_size": 36, "batch_size": 4, "num_workers": 0}
    captioners = {
        name: {"learning": learning([features], architecture, ["scratch"]), "decoding": decoding}
        for name, (architecture, features, decoding) in CAPTIONERS.items()
    }
    members = ["captioners/on_vectors", "captioners/on_grid"]
    ensemble = learning(["fixed", "published"], {"name": "ensemble"}, members)
    del ensemble["training"]
    params = {
        **COMMON,
        "features": {name: {**common, **settings} for name, settings in FEATURES.items()},
        "captioners": {**captioners, "ensemble": {"learning": ensemble, "decoding": BEAM}},
    }
    with paths.params.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    with untracked():
        for name in FEATURES:
            load_stage(STAGES / "extract_features.py").main(name, root)
    for name in CAPTIONERS:
        write_captioner(paths, name, params)
    checkpoints = {name: load_checkpoint(paths.captioner(name), kind="captioner") for name in ("on_vectors", "on_grid")}
    joined = ensemble_of(checkpoints, ["fixed", "published"], places=[None, 4])
    joined.settings.update(ensemble)
    save_checkpoint(paths.captioner("ensemble"), joined)
    write_autoencoder(paths)


def write_captioner(paths: Paths, name: str, params: dict[str, Any]) -> None:
    described, features, _ = CAPTIONERS[name]
    index, vocabulary = read_index(paths.features(features)), read_vocabulary(paths.vocabulary("dots"))
    sizes = {"vocabulary_size": len(vocabulary), "feature_size": index.shape[1]}
    architecture = Architecture(**described)
    network = build_captioner(architecture, **sizes, seed=0, key=name)
    with torch.no_grad():
        for weights in network.parameters():  # so that images and beams differ
            weights.mul_(3)
    checkpoint = Checkpoint(
        kind="captioner",
        dataset="dots",
        dataset_digest=index.dataset_digest,
        classes=(),
        vocabulary_digest=vocabulary.digest,
        architecture=describe_architecture(architecture),
        sizes=sizes,
        settings=params["captioners"][name]["learning"],
        normalisation={},
        state_dict=dict(network.state_dict()),
        metrics={},
    )
    save_checkpoint(paths.captioner(name), checkpoint)


def write_autoencoder(paths: Paths) -> None:
    architecture = Architecture(name="conv_autoencoder", width=4, latent_channels=2)
    network = build_autoencoder(architecture, image_size=tiny_data.IMAGE_SIZE, seed=0, key="conv")
    checkpoint = Checkpoint(
        kind="autoencoder",
        dataset="tiny",
        dataset_digest="",
        classes=(),
        vocabulary_digest="",
        architecture=describe_architecture(architecture),
        sizes={"image_size": tiny_data.IMAGE_SIZE},
        settings={},
        normalisation={"mean": [0.0] * 3, "std": [1.0] * 3},
        state_dict=dict(network.state_dict()),
        metrics={},
    )
    save_checkpoint(paths.autoencoder("conv"), checkpoint)


@pytest.fixture(scope="session")
def pictures(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of the captioned images, in the order of the records; most are not square."""
    folder = tmp_path_factory.mktemp("pictures")
    with zipfile.ZipFile(Paths(trained).raw_captions("dots") / "images.zip") as archive:
        return [Path(archive.extract(name, folder)) for name in archive.namelist()]
