"""One contract for every classifier."""

import math

import pytest
import torch
import torch.nn.functional as F

from seesay.classification.networks.alexnet import LocalResponseNorm
from seesay.classification.networks.plain_cnn import ConvolutionalClassifier
from seesay.classification.networks.registry import (
    CLASSIFIERS,
    build_classifier,
    check_head,
    ensemble_of,
    load_members,
    restore_classifier,
)
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint

SMALL = {
    "mlp": {"hidden_sizes": [16, 8], "dropout": 0.1},
    "plain_cnn": {"widths": [4, 8], "dropout": 0.1},
    "alexnet_mini": {"dropout": 0.1, "normalisation": "local_response"},
    "alexnet": {"dense_size": 16, "dropout": 0.1, "batch_norm": False},
    "resnet9": {"width": 4},
    "resnet18": {"stem_stride": 2, "dropout": 0.1},
    "pretrained": {
        "network": "test_efficientnet",
        "input_size": 48,
        "dropout": 0.1,
        "train_backbone": True,
        "freeze_batch_norms": False,
    },
}
NUM_CLASSES, IMAGE_SIZE = 7, 32
WITHOUT_CONVOLUTIONAL_BODY = {"mlp", "resnet18", "pretrained"}
"""A perceptron has no feature map; the others hold a network of torchvision or timm."""


def build(name, *, seed=0, num_classes=NUM_CLASSES, image_size=IMAGE_SIZE, **changes):
    architecture = Architecture(name=name, **{**SMALL[name], **changes})
    key = "classifiers.x.architecture"
    return build_classifier(architecture, num_classes=num_classes, image_size=image_size, seed=seed, key=key)


def checkpoint_of(name, classifier, **changes):
    fields = {
        "kind": "classifier",
        "dataset": "x",
        "dataset_digest": "",
        "classes": tuple(f"n{i}" for i in range(NUM_CLASSES)),
        "vocabulary_digest": "",
        "architecture": describe_architecture(Architecture(name=name, **SMALL[name])),
        "sizes": {"num_classes": NUM_CLASSES, "image_size": IMAGE_SIZE},
        "settings": {},
        "normalisation": {},
        "state_dict": classifier.state_dict(),
        "metrics": {},
    }
    return Checkpoint(**{**fields, **changes})


@pytest.fixture
def images():
    return torch.randn(6, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


def test_every_classifier_is_tested_here():
    assert set(SMALL) == set(CLASSIFIERS)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_have_a_convolutional_body_or_are_listed(name):
    classifier = build(name)
    assert isinstance(classifier, ConvolutionalClassifier) == (name not in WITHOUT_CONVOLUTIONAL_BODY)
    if isinstance(classifier, ConvolutionalClassifier):
        assert classifier.pooling in ("max", "mean")
        assert classifier.body(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)).dim() == 4


@pytest.mark.parametrize("name", CLASSIFIERS)
class TestEveryClassifier:
    def test_gives_finite_logits_of_the_head_s_width(self, name, images):
        logits = build(name)(images)
        assert logits.shape == (6, NUM_CLASSES)
        assert logits.isfinite().all()

    def test_gives_every_parameter_a_gradient(self, name, images):
        classifier = build(name)
        F.cross_entropy(classifier(images), torch.arange(6)).backward()
        idle = [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []

    def test_starts_near_the_loss_of_knowing_nothing(self, name, images):
        loss = F.cross_entropy(build(name)(images), torch.arange(6)).item()
        assert math.log(NUM_CLASSES) / 2 < loss < 2 * math.log(NUM_CLASSES)

    def test_starts_the_same_for_the_same_seed(self, name):
        first, second, other = (build(name, seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_sees_an_image_alone_as_in_a_batch(self, name, images):
        classifier = build(name).eval()
        together = classifier(images)
        alone = torch.cat([classifier(image[None]) for image in images])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)

    def test_does_not_care_how_images_lie_in_memory(self, name, images):
        classifier = build(name).eval()
        expected = classifier(images)
        classifier.to(memory_format=torch.channels_last)
        strided = classifier(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(strided, expected, rtol=1e-4, atol=1e-5)

    def test_comes_back_from_its_file(self, name, images, tmp_path):
        classifier = build(name)
        classifier(images)  # moves the norms' statistics
        save_checkpoint(tmp_path / "model.pt", checkpoint_of(name, classifier))
        restored = restore_classifier(load_checkpoint(tmp_path / "model.pt", kind="classifier"))
        assert not restored.training
        assert torch.equal(restored(images), classifier.eval()(images))

    def test_takes_other_image_sizes_and_class_counts(self, name):
        logits = build(name, image_size=64, num_classes=2)(torch.zeros(2, 3, 64, 64))
        assert logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "arguments", "num_parameters"),
    [
        # 12288 * 512 + 512, 512 * 256 + 256, 256 * 30 + 30
        ("mlp", {"hidden_sizes": [512, 256], "dropout": 0.2}, 6_291_968 + 131_328 + 7_710),
        ("resnet9", {"width": 32}, 1_651_262),  # the 1.65 M of the network it follows
        # torchvision's 11,689,512 with 1000 classes, less 1000 * 513 of its head and 3 * 64 * (49 - 9) of its stem
        ("resnet18", {}, 11_689_512 - 513_000 - 7_680 + 30 * 513),
        # 3x3 convolutions: 896, 18496, 73856, 147584, 73792; dense 4096 * 1024 + 1024, 1024 * 512 + 512, 512 * 30 + 30
        ("alexnet_mini", {}, 896 + 18_496 + 73_856 + 147_584 + 73_792 + 4_195_328 + 524_800 + 15_390),
    ],
)
def test_networks_have_their_size(name, arguments, num_parameters):
    classifier = build(name, num_classes=30, image_size=64, **arguments)
    assert sum(parameter.numel() for parameter in classifier.parameters()) == num_parameters


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("plain_cnn", {"widths": [4] * 5}, r"widths: 5 blocks need an image size of at least 64, got 32"),
        ("plain_cnn", {"widths": []}, r"architecture\.widths: got \[\]"),
        ("plain_cnn", {"dropout": 1.0}, r"architecture\.dropout: got 1\.0: .*less than 1"),
        ("mlp", {"hidden_sizes": [8, 0]}, r"architecture\.hidden_sizes\.1: got 0"),
        ("alexnet", {"image_size": 16}, r"alexnet needs an image size of at least 32, got 16"),
        ("alexnet_mini", {"image_size": 36}, r"alexnet_mini needs an image size divisible by 8, got 36"),
        ("alexnet_mini", {"normalisation": "none"}, r"architecture\.normalisation: got 'none'"),
        ("resnet18", {"stem_stride": 0}, r"architecture\.stem_stride: got 0"),
        ("pretrained", {"network": "resnet9000"}, r"network: got 'resnet9000': expected the name of a model of timm"),
        ("pretrained", {"network": "vit_tiny_patch16_224"}, r"the classifier takes no images of 32 pixels"),
        ("resnet9", {"image_size": 8}, r"resnet9 needs an image size of at least 16, got 8"),
    ],
)
def test_impossible_arguments_are_refused_with_their_key(name, changes, message):
    with pytest.raises(InputError, match=message):
        build(name, **changes)


def test_a_head_of_another_width_is_refused():
    classifier = build("mlp")
    check_head(classifier, num_classes=NUM_CLASSES, image_size=IMAGE_SIZE)
    with pytest.raises(InputError, match=r"head returns \(7,\) logits, the data has 8 classes"):
        check_head(classifier, num_classes=8, image_size=IMAGE_SIZE)
    assert classifier.training


def test_a_checkpoint_whose_parts_do_not_fit_is_refused():
    classifier = build("resnet9")
    with pytest.raises(InputError, match="lists 3 classes, its head has 7"):
        restore_classifier(checkpoint_of("resnet9", classifier, classes=("a", "b", "c")))
    sizes = {"num_classes": 9, "image_size": IMAGE_SIZE}
    with pytest.raises(InputError, match=r"weights do not fit its architecture: .* has shape .*, expected"):
        restore_classifier(checkpoint_of("resnet9", classifier, sizes=sizes))
    with pytest.raises(InputError, match=r"checkpoint: architecture\.name: got 'gone'"):
        restore_classifier(checkpoint_of("resnet9", classifier, architecture={"name": "gone", "arguments": {}}))


def test_the_alexnets_take_batch_norms_instead(images):
    for name, changes in (("alexnet_mini", {"normalisation": "batch"}), ("alexnet", {"batch_norm": True})):
        norms = [m for m in build(name, **changes).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert len(norms) == 5
        assert not any(isinstance(m, LocalResponseNorm) for m in build(name, **changes).modules())


class TestAnEnsemble:
    def checkpoint(self):
        return ensemble_of([checkpoint_of("mlp", build("mlp")), checkpoint_of("resnet9", build("resnet9", seed=1))])

    def test_gives_the_mean_of_its_members_probabilities(self, images):
        members = [build("mlp").eval(), build("resnet9", seed=1).eval()]
        expected = torch.stack([member(images).softmax(1) for member in members]).mean(0)
        torch.testing.assert_close(restore_classifier(self.checkpoint())(images).softmax(1), expected)

    def test_comes_back_from_its_file(self, images, tmp_path):
        save_checkpoint(tmp_path / "0.pt", self.checkpoint())
        (loaded,) = load_members(tmp_path)
        assert torch.equal(restore_classifier(loaded)(images), restore_classifier(self.checkpoint())(images))

    def test_a_folder_gives_a_member_for_each_seed(self, tmp_path):
        for index in (0, 1, 2):
            save_checkpoint(tmp_path / f"{index}.pt", checkpoint_of("mlp", build("mlp", seed=index)))
        members = load_members(tmp_path)
        assert len(members) == 3
        assert torch.equal(members[2].state_dict["head.bias"], build("mlp", seed=2).head.bias)

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"0\.pt: no such file"):
            load_members(tmp_path)


def test_local_response_normalisation_is_torch_s():
    inputs = 30.0 * torch.randn(3, 7, 5, 4, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
    torch.testing.assert_close(LocalResponseNorm(7)(inputs), theirs(inputs))
