"""One contract for every autoencoder."""

import pytest
import torch
import torch.nn.functional as F

from seesay.autoencoding.networks.backbone import backbone_of, map_shape
from seesay.autoencoding.networks.base import clamp_straight_through
from seesay.autoencoding.networks.decoder import EvenUpsampling
from seesay.autoencoding.networks.registry import AUTOENCODERS, build_autoencoder, load_backbone, restore_autoencoder
from seesay.classification.networks.registry import build_classifier, restore_classifier
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint

BACKBONE = {"name": "resnet9", "width": 2}
SMALL = {
    "conv_autoencoder": {"width": 4, "latent_channels": 2},
    "residual_autoencoder": {
        "width": 4,
        "blocks": 1,
        "latent_channels": 2,
        "decoder_widths": [8, 4, 4],
        "decoder_blocks": 1,
    },
    "backbone_autoencoder": {
        "backbone": BACKBONE,
        "train_backbone": True,
        "latent_channels": 8,
        "decoder_widths": [8, 8, 4, 4],
        "decoder_blocks": 1,
    },
    "pca": {"num_components": 12},
}
LEARNING = [name for name in AUTOENCODERS if name != "pca"]
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)


def architecture_of(name, **changes):
    return Architecture(name=name, **{**SMALL[name], **changes})


def build(name, *, seed=0, image_size=16, **changes):
    architecture = architecture_of(name, **changes)
    return build_autoencoder(architecture, image_size=image_size, seed=seed, key="autoencoders.x.architecture")


def classifier_checkpoint(architecture=None, *, image_size=16, seed=3):
    architecture = architecture or Architecture(**BACKBONE)
    sizes = {"num_classes": 5, "image_size": image_size}
    classifier = build_classifier(architecture, **sizes, seed=seed, key="x")
    return Checkpoint(
        kind="classifier",
        dataset="x",
        dataset_digest="",
        classes=("a", "b", "c", "d", "e"),
        vocabulary_digest="",
        architecture=describe_architecture(architecture),
        sizes=sizes,
        settings={},
        normalisation={"mean": list(MEAN), "std": list(STD)},
        state_dict=classifier.state_dict(),
        metrics={},
    )


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hidden():
    """The upper left quarter of every image."""
    mask = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    mask[:, :, :8, :8] = True
    return mask


def test_every_autoencoder_is_tested_here():
    assert set(SMALL) == set(AUTOENCODERS)


@pytest.mark.parametrize("name", AUTOENCODERS)
class TestEveryAutoencoder:
    def test_draws_images_of_the_same_shape_in_the_unit_range(self, name, images):
        drawn = build(name)(3 * images - 1)
        assert drawn.shape == images.shape
        assert ((drawn >= 0) & (drawn <= 1)).all()

    def test_squeezes_an_image_into_as_many_numbers_as_it_says(self, name, images):
        autoencoder = build(name)
        latents = autoencoder.encode(images)
        assert latents.flatten(1).shape == (4, autoencoder.latent_size)
        assert torch.equal(autoencoder.eval().decode(autoencoder.encode(images)), autoencoder(images))

    def test_comes_back_from_its_file(self, name, images, tmp_path):
        autoencoder = build(name)
        autoencoder.set_normalisation(MEAN, STD)
        autoencoder(images)
        checkpoint = Checkpoint(
            kind="autoencoder",
            dataset="x",
            dataset_digest="",
            classes=(),
            vocabulary_digest="",
            architecture=describe_architecture(architecture_of(name)),
            sizes={"image_size": 16},
            settings={},
            normalisation={},
            state_dict=autoencoder.state_dict(),
            metrics={},
        )
        save_checkpoint(tmp_path / "model.pt", checkpoint)
        restored = restore_autoencoder(load_checkpoint(tmp_path / "model.pt", kind="autoencoder"))
        assert torch.equal(restored(images), autoencoder.eval()(images))

    def test_draws_the_same_whatever_lies_in_hidden_pixels(self, name, images, hidden):
        autoencoder = build(name).eval()
        other = torch.where(hidden, 1 - images, images)
        assert torch.equal(autoencoder(images, hidden), autoencoder(other, hidden))
        assert name == "pca" or not torch.equal(autoencoder(images), autoencoder(images, hidden))


@pytest.mark.parametrize("name", LEARNING)
class TestEveryAutoencoderThatLearns:
    def test_gives_every_parameter_a_gradient(self, name, images):
        autoencoder = build(name)
        F.mse_loss(autoencoder(images), images).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in autoencoder.parameters())

    def test_starts_the_same_for_the_same_seed(self, name):
        first, second, other = (build(name, seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_gives_hidden_pixels_a_gradient_of_exactly_zero(self, name, images, hidden):
        autoencoder = build(name)
        images.requires_grad_()
        (autoencoder(images, hidden) - images.detach()).square().sum().backward()
        seen = ~hidden.expand_as(images)
        assert (images.grad[~seen] == 0.0).all()
        assert (images.grad[seen] != 0.0).any()

    def test_draws_an_even_surface_of_even_latents(self, name):
        """A constant map stays constant but for what the border's padding reaches."""
        autoencoder = build(name).eval()
        channels = autoencoder.encode(torch.zeros(1, 3, 16, 16)).shape[1]
        even = torch.randn(1, channels, 1, 1, generator=torch.Generator().manual_seed(0))
        drawn = autoencoder.decode(even.expand(1, channels, 24, 24))
        middle = drawn.shape[2] // 2
        assert drawn[:, :, middle - 8 : middle + 8, middle - 8 : middle + 8].std(dim=(2, 3)).max() < 1e-5
        assert drawn.std(dim=(2, 3)).min() > 1e-4


class TestCompletion:
    @pytest.fixture
    def autoencoder(self):
        """One that corrects, as after training: at first it corrects nothing."""
        built = build("backbone_autoencoder", completion={"width": 4, "blocks": 1}).eval()
        torch.nn.init.normal_(built.completion.layers[-2].weight, generator=torch.Generator().manual_seed(0))
        return built

    def test_looks_at_visible_pixels_and_at_no_hidden_one(self, autoencoder, images, hidden):
        other = torch.where(hidden, 1 - images, images)
        completed = autoencoder(images, hidden)
        assert torch.equal(completed, autoencoder(other, hidden))
        latents = autoencoder.encode(images, hidden)
        assert not torch.equal(completed, autoencoder.decode(latents))
        seen = autoencoder.complete(latents, torch.where(hidden, images, 1 - images), hidden)
        assert not torch.equal(completed, seen), "visible pixels go around the latents"

    def test_gives_hidden_pixels_a_gradient_of_exactly_zero(self, autoencoder, images, hidden):
        images.requires_grad_()
        autoencoder(images, hidden).square().sum().backward()
        assert (images.grad[hidden.expand_as(images)] == 0.0).all()

    def test_does_nothing_where_nothing_is_hidden_and_at_first(self, autoencoder, images, hidden):
        assert torch.equal(autoencoder(images), autoencoder.decode(autoencoder.encode(images)))
        new = build("backbone_autoencoder", completion={"width": 4, "blocks": 1}).eval()
        without = build("backbone_autoencoder").eval()
        assert torch.equal(new(images, hidden), without(images, hidden))


@pytest.mark.parametrize(
    ("name", "channels"), [("conv_autoencoder", 16), ("residual_autoencoder", 16), ("backbone_autoencoder", 64)]
)
def test_a_64_pixel_image_passes_through_1024_numbers(name, channels):
    assert build(name, image_size=64, latent_channels=channels).latent_size == 1024


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("conv_autoencoder", {"image_size": 20}, "image size divisible by 8, got 20"),
        ("residual_autoencoder", {"image_size": 20}, "image size divisible by 8, got 20"),
        ("residual_autoencoder", {"decoder_widths": [4, 4]}, "got 2 of them.* to 8 pixels; the images have 16"),
        ("backbone_autoencoder", {"decoder_widths": [4, 4, 4]}, "got 3 of them.* 1 positions a side to 8 pixels"),
        ("backbone_autoencoder", {"backbone": {"name": "vgg"}}, "backbone: architecture.name: got 'vgg'"),
        ("backbone_autoencoder", {"backbone": {"name": "resnet9", "depth": 1}}, "architecture.depth: unknown key"),
        (
            "backbone_autoencoder",
            {"backbone": {"name": "mlp", "hidden_sizes": [4], "dropout": 0.0}},
            "mlp has no feature map",
        ),
        ("pca", {"num_components": 769}, "got 769: expected at most 768"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, changes, says):
    with pytest.raises(InputError, match=rf"(?s)autoencoders\.x\.architecture: .*{says}"):
        build(name, **changes)


def test_a_pixel_cut_off_is_still_told_to_come_back():
    values = torch.tensor([-0.5, 0.5, 1.5], requires_grad=True)
    shown = clamp_straight_through(values)
    assert shown.tolist() == [0.0, 0.5, 1.0]
    (shown * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert values.grad.tolist() == [1.0, 2.0, 3.0]


def test_each_position_becomes_four_that_differ_where_the_map_does():
    torch.manual_seed(0)
    upsampling = EvenUpsampling(2, 3)
    constant = upsampling(torch.ones(1, 2, 6, 6))[:, :, 2:-2, 2:-2]
    assert constant.std(dim=(2, 3)).max() < 1e-6
    varied = upsampling(torch.randn(1, 2, 6, 6))
    assert varied.shape == (1, 3, 12, 12)
    squares = varied.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert squares.std(dim=4).min() > 1e-3


class TestBackbone:
    @pytest.mark.parametrize(
        ("described", "shape"),
        [
            ({"name": "resnet9", "width": 2}, (16, 4)),
            ({"name": "plain_cnn", "widths": [4, 8], "dropout": 0.0}, (8, 8)),
            ({"name": "alexnet_mini", "dropout": 0.0, "normalisation": "batch"}, (64, 8)),
            ({"name": "alexnet", "dense_size": 8, "dropout": 0.0, "batch_norm": True}, (256, 3)),
            ({"name": "resnet18", "stem_stride": 2, "dropout": 0.0}, (512, 4)),
        ],
    )
    def test_any_classifier_with_places_gives_its_last_map(self, described, shape):
        architecture = Architecture(**described)
        classifier = build_classifier(architecture, num_classes=5, image_size=64, seed=0, key="x")
        assert map_shape(backbone_of(classifier, name=architecture.name), image_size=64) == shape

    @pytest.mark.parametrize("network", ["test_efficientnet", "test_resnet"])
    def test_pretrained_networks_see_enlarged_images(self, network):
        arguments = {"input_size": 64, "dropout": 0.0, "train_backbone": True, "freeze_batch_norms": True}
        architecture = Architecture(name="pretrained", network=network, **arguments)
        classifier = build_classifier(architecture, num_classes=5, image_size=32, seed=0, key="x")
        backbone = backbone_of(classifier, name="pretrained")
        assert map_shape(backbone, image_size=32)[1] == 2
        assert not {name for name, _ in backbone.named_parameters() if "classifier" in name or "fc" in name}

    def test_is_the_trained_one_and_normalises_as_it_did(self, images):
        checkpoint = classifier_checkpoint()
        autoencoder = build("backbone_autoencoder").eval()
        load_backbone(autoencoder, architecture_of("backbone_autoencoder"), checkpoint, name="resnet9")
        classifier = restore_classifier(checkpoint)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        expected = classifier.body((images - mean) / std)
        assert torch.allclose(autoencoder.backbone((images - autoencoder.mean) / autoencoder.std), expected)
        assert torch.allclose(autoencoder.encode(images), autoencoder.to_latents(expected), atol=1e-6)

    def test_a_checkpoint_of_another_architecture_is_refused(self):
        wide = Architecture(name="resnet9", width=4)
        autoencoder = build("backbone_autoencoder")
        with pytest.raises(InputError, match=r"backbone: got name resnet9, width 2: .*classifiers\.wide: .*width 4"):
            load_backbone(
                autoencoder, architecture_of("backbone_autoencoder"), classifier_checkpoint(wide), name="wide"
            )

    def test_frozen_it_keeps_its_weights_and_its_batch_norms_statistics(self, images):
        autoencoder = build("backbone_autoencoder", train_backbone=False).train()
        before = {name: value.clone() for name, value in autoencoder.backbone.state_dict().items()}
        optimizer = torch.optim.SGD([p for p in autoencoder.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            F.mse_loss(autoencoder(images), images).backward()
            optimizer.step()
        assert all(torch.equal(value, before[name]) for name, value in autoencoder.backbone.state_dict().items())
        assert all(p.grad is None for p in autoencoder.backbone.parameters())
        assert autoencoder.to_latents.weight.grad is not None
        assert autoencoder.decoder.training

    def test_latents_are_all_that_the_decoder_sees(self, images):
        autoencoder = build("backbone_autoencoder").eval()
        latents = autoencoder.encode(images).detach().requires_grad_()
        images.requires_grad_()
        autoencoder.decode(latents).sum().backward()
        assert images.grad is None

    def test_fine_tuned_it_may_learn_at_a_rate_of_its_own(self):
        scales = build("backbone_autoencoder").rate_scales(0.1)
        assert set(scales.values()) == {0.1}
        assert all(name.startswith("backbone.") for name in scales)
