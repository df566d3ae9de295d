"""One contract for timm's models: maps and pooled vectors, heads, layers, preprocessing, weights from a file."""

import socket

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seesay.classification.networks.pretrained import Pretrained, load_pretrained
from seesay.classification.networks.published import (
    build_published,
    feature_map,
    fuse_batch_norms,
    layers_of,
    load_published,
    preprocessing_of,
    remove_head,
)
from seesay.core.errors import InputError

# The features of a place, of the pooled vector, the images' size, places per side, layers.
CONTRACT = {
    "mobilenetv2_100": (1280, 1280, 64, 2, 18),
    "resnet18": (512, 512, 64, 2, 9),
    "tf_efficientnet_lite0": (1280, 1280, 64, 2, 17),
    "convnext_atto": (320, 320, 64, 2, 14),
    "lcnet_035": (176, 1280, 64, 2, 15),  # its head begins with a convolution
    "test_vit": (64, 64, 160, 10, 7),
    "swin_tiny_patch4_window7_224": (768, 768, 224, 7, 13),  # channels last
}


@pytest.fixture
def no_network(monkeypatch):
    """A machine whose every connection is refused."""

    def refuse(*_arguments, **_named):
        raise AssertionError("no test may reach a network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def saved(name, path):
    """The model with random weights and batch norms that change something, and its state dict in a file."""
    torch.manual_seed(0)
    network = build_published(name).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    if path.suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    return network


@pytest.mark.parametrize("name", CONTRACT)
def test_models_keep_the_contract(name):
    map_size, pooled_size, image_size, side, num_layers = CONTRACT[name]
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    network = build_published(name).eval()
    assert network(images).shape == (2, 1000)
    assert remove_head(network) is network
    with torch.no_grad():
        features = network.forward_features(images)
        pooled = network.forward_head(features, pre_logits=True)
        torch.testing.assert_close(pooled, network(images))
    assert feature_map(network, features).shape == (2, map_size, side, side)
    assert pooled.shape == (2, pooled_size)
    layers = layers_of(network)
    assert len(layers) == num_layers
    assert sorted(name for layer in layers for name in layer) == sorted(name for name, _ in network.named_parameters())


@pytest.mark.parametrize("name", CONTRACT)
def test_a_classifier_has_a_head_of_its_own_and_rates_by_layer(name):
    _, pooled_size, image_size, _, num_layers = CONTRACT[name]
    classifier = Pretrained(5, 32, network=name, input_size=image_size, train_backbone=True).eval()
    assert classifier(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert classifier.head[1].in_features == pooled_size
    scales = classifier.rate_scales(0.5)
    assert set(scales) == {name for name, _ in classifier.named_parameters()}
    assert set(scales.values()) == {0.5**depth for depth in range(num_layers + 1)}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv2_100", "test_convnext", "test_vit"])
def test_folded_batch_norms_change_no_output(name, tmp_path):
    network = saved(name, tmp_path / "weights.pth")
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    fused = fuse_batch_norms(network, 160)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    with torch.no_grad():
        torch.testing.assert_close(fused(images), network(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("file", ["weights.pth", "weights.safetensors"])
def test_weights_come_from_the_file_without_a_network(file, tmp_path, no_network):
    network = saved("test_resnet", tmp_path / file)
    loaded = load_published("test_resnet", tmp_path / file)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("file", ["gone.pth", "gone.safetensors"])
def test_a_missing_file_is_one_error_without_a_network(file, tmp_path, no_network):
    with pytest.raises(InputError, match=rf"{file}: no such file; expected the weights of resnet50\.a1_in1k"):
        load_published("resnet50.a1_in1k", tmp_path / file)
    classifier = Pretrained(5, 32, network="test_resnet", input_size=32, train_backbone=False)
    with pytest.raises(InputError, match=f"{file}: no such file; expected the weights of test_resnet"):
        load_pretrained(classifier, tmp_path / file, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_damaged_safetensors_are_named(tmp_path):
    path = tmp_path / "cut.safetensors"
    saved("test_resnet", path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.safetensors: not a readable state dict of test_resnet"):
        load_published("test_resnet", path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = build_published("test_resnet").state_dict()
    weights["fc.bias"][3] = torch.nan
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"nan\.pth: damaged: fc\.bias has values that are not finite"):
        load_published("test_resnet", tmp_path / "nan.pth")


def test_a_published_training_checkpoint_is_unwrapped(tmp_path):
    network = saved("test_resnet", tmp_path / "plain.pth")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "whole.pth")
    loaded = load_published("test_resnet", tmp_path / "whole.pth")
    assert torch.equal(loaded.state_dict()["fc.weight"], network.state_dict()["fc.weight"])


def test_names_that_timm_knows_how_to_convert_load(tmp_path):
    """convnext's authors name layers otherwise; timm converts them, and keeps no second copy of the weights."""
    network = saved("test_convnext", tmp_path / "weights.pth")
    theirs = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("stem.", "downsample_layers.0.").replace("head.fc.", "head.").replace("head.norm.", "norm.")
        name = name.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc1.", ".pwconv1.").replace(".mlp.fc2.", ".pwconv2.")
        if ".downsample." in name:
            stage, _, rest = name.removeprefix("stages.").partition(".downsample.")
            name = f"downsample_layers.{stage}.{rest}"
        theirs[name.replace(".blocks.", ".")] = tensor
    torch.save(theirs, tmp_path / "theirs.pth")
    loaded = load_published("test_convnext", tmp_path / "theirs.pth")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert "state_dict" not in loaded.pretrained_cfg


def test_preprocessing_is_the_models_own():
    lite = preprocessing_of(build_published("tf_efficientnet_lite2"))
    assert (lite.image_size, lite.interpolation, lite.mean, lite.std) == (260, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert preprocessing_of(build_published("resnet18.tv_in1k")).interpolation == "bilinear"
