"""Whatever the network: pooled is what its head sees, and the grid is what was pooled."""

import pytest
import torch
from torch import nn

from seesay.captioning.features.encoders import classifier_encoder, load_feature_encoder
from seesay.classification.networks.published import build_published
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
        "network": "test_efficientnet",
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


@pytest.fixture
def load(tmp_path):
    """A function that loads an encoder of a model of timm with random weights."""

    def load(network, *, grid_size):
        torch.manual_seed(0)
        torch.save(build_published(network).state_dict(), tmp_path / "weights.pth")
        return load_feature_encoder(network, tmp_path / "weights.pth", grid_size=grid_size)

    return load


@pytest.mark.parametrize(
    ("network", "num_dimensions"),
    [("mobilenetv2_100", 1280), ("resnet18", 512), ("lcnet_035", 176), ("tf_efficientnet_lite0", 1280)],
)
def test_a_grid_of_one_place_is_what_published_networks_pool(network, num_dimensions, load):
    encoder = load(network, grid_size=1)
    features = encoder(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    assert {kind: tuple(values.shape) for kind, values in features.items()} == {
        "pooled": (2, num_dimensions),
        "grid": (2, 1, num_dimensions),
    }
    torch.testing.assert_close(features["grid"][:, 0], features["pooled"], rtol=1e-3, atol=1e-4)


def test_the_grid_says_where(load):
    # Only the lower right corner differs between two images: only the features of places near it may.
    encoder = load("test_resnet", grid_size=8)
    plain = torch.full((1, 3, 256, 256), 90, dtype=torch.uint8)
    changed = plain.clone()
    changed[:, :, 250:, 250:] = 255
    differs = (encoder(plain)["grid"] - encoder(changed)["grid"]).abs().amax(dim=(0, 2)).reshape(8, 8) > 1e-7
    assert differs[7, 7]
    assert not differs[:4].any()
    assert not differs[:, :4].any()


def test_a_vision_transformer_keeps_its_patches_and_not_its_class_token(load):
    encoder = load("test_vit", grid_size=10)
    images = torch.zeros(2, 3, 160, 160, dtype=torch.uint8)
    images[1, :, 32:48, 96:112] = 255  # the patch in row 2, column 6
    blank, marked = encoder(images)["grid"]
    assert (marked - blank).norm(dim=1).argmax() == 2 * 10 + 6
    with pytest.raises(InputError, match="image_size: the network accepts no images of 64 pixels"):
        load("vit_tiny_patch16_224", grid_size=None).check_image_size(64)


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
