"""The options of ResNet-9, each alone and all together."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seesay.classification.networks.registry import build_classifier, restore_classifier
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, describe_architecture

OPTIONS = {
    "activation": "gelu",
    "pool_first": True,
    "blur_pool": True,
    "squeeze_excitation": True,
    "stochastic_depth": 0.2,
    "dirac": True,
    "whitening": True,
    "evaluation_size": 40,
}
EACH = [{name: value} for name, value in OPTIONS.items()] + [OPTIONS]


def build(*, width=4, seed=0, image_size=32, **options):
    architecture = Architecture(name="resnet9", width=width, **options)
    return build_classifier(architecture, num_classes=7, image_size=image_size, seed=seed, key="classifiers.x")


@pytest.fixture
def images():
    return torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", EACH, ids=lambda options: "+".join(options))
class TestEachOption:
    def test_gives_every_parameter_a_gradient(self, options, images):
        classifier = build(**options)
        logits = classifier(images)
        assert logits.shape == (16, 7)
        F.cross_entropy(logits, torch.arange(16) % 7).backward()
        assert [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_changes_the_network(self, options, images):
        plain, other = build(), build(**options)
        torch.manual_seed(0)
        assert not torch.allclose(plain(images), other(images)) or not torch.allclose(
            plain.eval()(images), other.eval()(images)
        )

    def test_comes_back_from_its_checkpoint(self, options, images):
        classifier = build(**options)
        classifier(images)  # moves the norms' statistics
        checkpoint = Checkpoint(
            kind="classifier",
            dataset="x",
            dataset_digest="",
            classes=tuple("abcdefg"),
            vocabulary_digest="",
            architecture=describe_architecture(Architecture(name="resnet9", width=4, **options)),
            sizes={"num_classes": 7, "image_size": 32},
            settings={},
            normalisation={},
            state_dict=classifier.state_dict(),
            metrics={},
        )
        assert torch.equal(restore_classifier(checkpoint)(images), classifier.eval()(images))


class TestWhitening:
    def test_makes_the_filters_responses_uncorrelated(self):
        classifier = build(width=12, whitening=True)
        colours = torch.tensor([[1.0, 0.8, 0.7], [0.0, 0.5, 0.3], [0.0, 0.0, 0.4]])
        noise = torch.randn(64, 3, 33, 33, generator=torch.Generator().manual_seed(1))
        images = torch.einsum("cd,ndhw->nchw", colours, F.avg_pool2d(noise, 3, stride=1, padding=1))
        classifier.body[0].fit(images)
        responses = F.conv2d(images, classifier.body[0].weight, stride=2)[:, :6].transpose(0, 1).flatten(1)
        moments = responses @ responses.T / responses.shape[1]
        assert torch.allclose(moments, moments.diag().diag(), atol=0.02)
        assert ((moments.diag() > 0.3) & (moments.diag() < 1.01)).all()  # 1, less what the epsilon takes

    def test_has_every_filter_with_both_signs_and_trains_none(self, images):
        classifier = build(whitening=True)
        classifier.body[0].fit(images)
        weight = classifier.body[0].weight
        assert torch.equal(weight[:2], -weight[2:])
        assert "body.0.weight" not in dict(classifier.named_parameters())

    @pytest.mark.parametrize("width", [5, 56])
    def test_refuses_widths_without_that_many_components(self, width):
        with pytest.raises(InputError, match=rf"width: got {width}: expected an even number of at most 54"):
            build(width=width, whitening=True)


def test_dirac_convolutions_pass_their_inputs_on(images):
    convolution = build(dirac=True).body[1][0]  # from 4 to 8 channels
    assert isinstance(convolution, nn.Conv2d)
    inputs = images[:, :1].repeat(1, 4, 1, 1)
    assert torch.equal(convolution(inputs)[:, :4], inputs)
    assert not torch.equal(convolution(inputs)[:, 4:], inputs)


def test_images_are_enlarged_in_evaluation_only(images):
    classifier, plain = build(evaluation_size=48), build()
    assert torch.equal(classifier(images), plain(images))
    enlarged = F.interpolate(images, size=(48, 48), mode="bicubic")
    assert torch.equal(classifier.eval()(images), plain.eval()(enlarged))


def test_stochastic_depth_skips_blocks_in_training_only(images):
    classifier = build(stochastic_depth=0.9)
    torch.manual_seed(0)
    assert not torch.equal(classifier(images), classifier(images))
    classifier.eval()
    assert torch.equal(classifier(images), classifier(images))


def test_an_unknown_option_is_refused_with_its_key():
    with pytest.raises(InputError, match=r"classifiers\.x\.activation: got 'tanh'"):
        build(activation="tanh")
