"""Whatever the network: pooled is what its head sees, and the grid is what was pooled."""

import pytest
import torch
import torchvision
from torch import nn

from seesay.captioning.features.encoders import classifier_encoder, load_feature_encoder
from seesay.classification.networks.registry import build_classifier, ensemble_of
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, describe_architecture

OURS = {
    "resnet9": {"width": 4},
    "resnet18": {"stem_stride": 2, "dropout": 0.1},
    "plain_cnn": {"widths": [4, 8], "dropout": 0.1},
    "alexnet": {"dense_size": 16, "dropout": 0.1, "batch_norm": True},
    "alexnet_mini": {"dropout": 0.1, "normalisation": "local_response"},
    "pretrained": {
        "network": "mobilenet_v3_small",
        "input_size": 96,
        "dropout": 0.1,
        "train_backbone": True,
        "freeze_batch_norms": False,
    },
    "mlp": {"hidden_sizes": [8], "dropout": 0.1},
}
NORMALISATION = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
NUM_CLASSES, IMAGE_SIZE = 7, 32


def trained(name):
    """A classifier of ours as after training: batch norms that change something; and its checkpoint."""
    architecture = Architecture(name=name, **OURS[name])
    classifier = build_classifier(architecture, num_classes=NUM_CLASSES, image_size=IMAGE_SIZE, seed=0, key="x")
    generator = torch.Generator().manual_seed(0)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    checkpoint = Checkpoint(
        kind="classifier",
        dataset="x",
        dataset_digest="d",
        classes=tuple(f"n{i}" for i in range(NUM_CLASSES)),
        vocabulary_digest="",
        architecture=describe_architecture(architecture),
        sizes={"num_classes": NUM_CLASSES, "image_size": IMAGE_SIZE},
        settings={},
        normalisation=NORMALISATION,
        state_dict=classifier.state_dict(),
        metrics={},
    )
    return classifier.eval(), checkpoint


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


HEADS = {
    "resnet9": lambda classifier, pooled: classifier.head(pooled) * 0.125,
    "resnet18": lambda classifier, pooled: classifier.network.fc(pooled),
    "plain_cnn": lambda classifier, pooled: classifier.head(pooled),
    "pretrained": lambda classifier, pooled: classifier.head(pooled),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_our_classifier_on_pooled_features_gives_its_logits(name, images):
    classifier, checkpoint = trained(name)
    encoder = classifier_encoder(checkpoint, "cell", grid_size=2)
    mean, std = (torch.tensor(NORMALISATION[key]).view(3, 1, 1) for key in ("mean", "std"))
    features = encoder(images)
    with torch.no_grad():
        expected = classifier((images / 255.0 - mean) / std)
        found = HEADS[name](classifier, features["pooled"])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert features["grid"].shape == (2, 4, encoder.num_dimensions)
    assert {kind: tuple(values.shape) for kind, values in features.items()} == encoder.shapes(2)


@pytest.mark.parametrize("name", ["resnet18", "plain_cnn", "alexnet", "alexnet_mini", "pretrained"])
def test_a_grid_of_one_place_is_the_mean_that_is_pooled(name, images):
    features = classifier_encoder(trained(name)[1], "cell", grid_size=1)(images)
    if name == "pretrained":  # its published head has a layer of its own before the linear one
        assert features["grid"].shape == (2, 1, features["pooled"].shape[1])
        return
    torch.testing.assert_close(features["grid"][:, 0], features["pooled"], rtol=1e-4, atol=1e-5)


def test_resnet9_pools_the_largest_and_its_grid_the_mean(images):
    encoder = classifier_encoder(trained("resnet9")[1], "cell", grid_size=2)  # its last map has 2 x 2 places
    features = encoder(images)
    torch.testing.assert_close(features["grid"].amax(dim=1), features["pooled"])


@pytest.mark.parametrize("name", ["mlp", "ensemble"])
def test_a_classifier_without_places_is_refused_by_the_name_of_its_cell(name):
    checkpoint = trained("plain_cnn")[1] if name == "ensemble" else trained(name)[1]
    if name == "ensemble":
        checkpoint = ensemble_of([checkpoint, checkpoint])
    with pytest.raises(InputError, match=f"classifier 'my_cell': its architecture {name} has no feature map"):
        classifier_encoder(checkpoint, "my_cell", grid_size=2)


def test_an_encoder_is_frozen_and_has_no_batch_norms():
    for name in ("resnet9", "resnet18", "pretrained"):
        encoder = classifier_encoder(trained(name)[1], "cell", grid_size=2)
        assert not encoder.training
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


@pytest.mark.parametrize(
    ("network", "num_dimensions"),
    [
        ("mobilenet_v2", 1280),
        ("resnet18", 512),
        ("shufflenet_v2_x0_5", 1024),
        ("regnet_y_400mf", 440),
        ("squeezenet1_1", 512),
        ("mnasnet0_5", 1280),
    ],
)
def test_networks_of_torchvision_give_what_they_pool_and_where(network, num_dimensions, tmp_path):
    torch.manual_seed(0)
    built = torchvision.models.get_model(network, weights=None).eval()
    torch.save(built.state_dict(), tmp_path / "weights.pth")
    encoder = load_feature_encoder(network, tmp_path / "weights.pth", grid_size=1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    features = encoder(images)
    assert {kind: tuple(values.shape) for kind, values in features.items()} == {
        "pooled": (2, num_dimensions),
        "grid": (2, 1, num_dimensions),
    }
    torch.testing.assert_close(features["grid"][:, 0], features["pooled"], rtol=1e-3, atol=1e-4)


def test_the_grid_says_where(tmp_path):
    # Only the lower right quarter differs between two images: only its place's features may.
    built = torchvision.models.get_model("squeezenet1_1", weights=None).eval()
    torch.save(built.state_dict(), tmp_path / "weights.pth")
    encoder = load_feature_encoder("squeezenet1_1", tmp_path / "weights.pth", grid_size=4)
    plain = torch.full((1, 3, 256, 256), 90, dtype=torch.uint8)
    changed = plain.clone()
    changed[:, :, 240:, 240:] = 255
    differs = (encoder(plain)["grid"] - encoder(changed)["grid"]).abs().amax(dim=(0, 2)).reshape(4, 4) > 1e-7
    assert differs[3, 3]
    assert not differs[:2].any()
    assert not differs[:, :2].any()


def test_a_vision_transformer_keeps_its_patches_and_not_its_class_token(tmp_path, monkeypatch):
    sizes = {"num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8}

    def small(_name, *, weights):
        torch.manual_seed(0)
        return torchvision.models.VisionTransformer(224, 32, **sizes)

    monkeypatch.setattr(torchvision.models, "get_model", small)
    torch.save(small("", weights=None).state_dict(), tmp_path / "weights.pth")
    encoder = load_feature_encoder("vit_b_32", tmp_path / "weights.pth", grid_size=7)
    images = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    images[:, :, 32:64, 96:128] = 255  # the patch in row 1, column 3
    grid = encoder(images)["grid"].reshape(7, 7, 8)
    typical = grid.flatten(0, 1).median(dim=0).values
    assert (grid - typical).norm(dim=2).argmax() == 1 * 7 + 3
    with pytest.raises(InputError, match="image_size: the network accepts no images of 64 pixels"):
        encoder.check_image_size(64)


def test_the_fixed_filters_see_each_place_as_an_image_of_its_own():
    encoder = load_feature_encoder("small_cnn", None, grid_size=2)
    images = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    images[0, 0, :48, 48:] = 230  # the upper right quarter is red
    grid = encoder(images)["grid"]
    assert grid.shape == (1, 4, encoder.num_dimensions)
    red = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    red[0, 0] = 230
    torch.testing.assert_close(grid[:, 1], encoder(red)["pooled"])
    for place in (0, 2, 3):
        torch.testing.assert_close(grid[:, place], encoder(torch.zeros_like(red))["pooled"])


def test_an_image_that_does_not_divide_into_places_is_enlarged_a_little():
    encoder = load_feature_encoder("small_cnn", None, grid_size=7)
    assert encoder(torch.zeros(2, 3, 96, 96, dtype=torch.uint8))["grid"].shape == (2, 49, encoder.num_dimensions)


def test_without_a_grid_size_there_is_no_grid():
    encoder = load_feature_encoder("small_cnn", None, grid_size=None)
    assert set(encoder(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))) == {"pooled"}
    assert set(encoder.shapes(5)) == {"pooled"}


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="'mobilenet': expected one of"):
        load_feature_encoder("mobilenet", tmp_path / "weights.pth", grid_size=7)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.get_model("squeezenet1_0", weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth: not the weights of torchvision's squeezenet1_1"):
        load_feature_encoder("squeezenet1_1", tmp_path / "weights.pth", grid_size=7)
