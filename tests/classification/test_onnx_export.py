"""What an ONNX file of a classifier gives, against PyTorch."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seesay.classification import export as onnx_export
from seesay.classification.export import OnnxClassifier, export_onnx
from seesay.classification.networks.registry import CLASSIFIERS, Ensemble
from seesay.core.errors import InputError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def contract():
    """The test of all classifiers, which knows how to build a small one of each."""
    spec = importlib.util.spec_from_file_location("contract", Path(__file__).parent / "networks/test_classifiers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def networks(contract):
    """Networks by name whose norms have seen images: of fresh ones, some mistakes would not show."""

    def made(name):
        network = contract.build(name)
        with torch.no_grad():
            network(torch.randn(8, 3, contract.IMAGE_SIZE, contract.IMAGE_SIZE))
        return network

    return made


def pixels(count, size):
    return np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32)


def expected_logits(network, images):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        return network.eval()((torch.from_numpy(images) - mean) / std).numpy()


def exported(network, size, **metadata):
    return OnnxClassifier(export_onnx(network, image_size=size, mean=MEAN, std=STD, metadata=metadata), num_threads=1)


def test_a_resnet9_enlarges_images_in_its_file_too(contract):
    options = {"activation": "gelu", "pool_first": True, "whitening": True, "squeeze_excitation": True}
    network, size = contract.build("resnet9", **options, evaluation_size=40), contract.IMAGE_SIZE
    images = pixels(3, size)
    np.testing.assert_allclose(exported(network, size)(images), expected_logits(network, images), atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_answers_the_same_from_its_file(contract, networks, name):
    """It does so for every batch size."""
    network, size = networks(name), contract.IMAGE_SIZE
    run = exported(network, size)
    for count in (1, 5):
        images = pixels(count, size)
        np.testing.assert_allclose(run(images), expected_logits(network, images), rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_one_file(contract, networks):
    ensemble, size = Ensemble([networks("resnet9"), networks("plain_cnn")]), contract.IMAGE_SIZE
    images = pixels(3, size)
    np.testing.assert_allclose(
        exported(ensemble, size)(images), expected_logits(ensemble, images), rtol=1e-4, atol=1e-5
    )


def test_pooling_to_a_size_that_does_not_divide_the_maps_is_exported():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2))
    images = pixels(2, 10)  # maps of 8x8
    np.testing.assert_allclose(exported(network, 10)(images), expected_logits(network, images), rtol=1e-4, atol=1e-5)


def test_normalisation_classes_and_origin_are_in_the_file():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # the mean of each channel
    classes = json.dumps(["fly", "crème brûlée"], ensure_ascii=False)
    run = exported(network, 8, classes=classes)
    grey = np.full((2, 3, 8, 8), 0.8, dtype=np.float32)
    # (0.8 - 0.4) / 0.2, (0.8 - 0.5) / 0.25, (0.8 - 0.6) / 0.3
    np.testing.assert_allclose(run(grey), [[2.0, 1.2, 2 / 3]] * 2, rtol=1e-5)
    assert run.metadata == {"classes": classes}


def test_equal_networks_give_equal_bytes_which_name_no_path(contract):
    first, second = (
        export_onnx(contract.build("mlp"), image_size=contract.IMAGE_SIZE, mean=MEAN, std=STD, metadata={"a": "b"})
        for _ in range(2)
    )
    assert first == second
    assert not re.search(rb"\.py\b|File \"", first)
    assert str(Path(onnx_export.__file__).parent).encode() not in first


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match="export to ONNX needs no_such_package: pip install no_such_package"):
        export_onnx(nn.Flatten(), image_size=8, mean=MEAN, std=STD, metadata={})
