"""Transfer learning: published weights, frozen parts, rates by depth."""

import pytest
import torch
import torch.nn.functional as F
import torchvision

from seesay.classification.networks.pretrained import Pretrained, load_pretrained
from seesay.core.errors import InputError
from seesay.training.build import count_flops

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)


def build(**changes):
    arguments = {"network": "resnet18", "input_size": 32, "dropout": 0.0}
    arguments |= {"train_backbone": True, "freeze_batch_norms": False}
    torch.manual_seed(0)
    return Pretrained(5, 32, **{**arguments, **changes})


@pytest.fixture
def published(tmp_path):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    return network.eval(), tmp_path / "resnet18.pth"


def test_the_backbone_sees_images_as_its_weights_expect_them(published):
    network, path = published
    network.fc = torch.nn.Identity()
    classifier = build(input_size=48).eval()
    load_pretrained(classifier, path, mean=MEAN, std=STD)
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def normalised(mean, std):
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    large = F.interpolate(normalised(IMAGENET_MEAN, IMAGENET_STD), size=48, mode="bicubic", align_corners=False)
    with torch.no_grad():
        expected = classifier.head(network(large))
        torch.testing.assert_close(classifier(normalised(MEAN, STD)), expected, rtol=1e-4, atol=1e-5)


def test_a_probe_moves_nothing_but_its_head():
    classifier = build(train_backbone=False).train()
    before = {name: value.clone() for name, value in classifier.backbone.state_dict().items()}
    classifier(torch.randn(4, 3, 32, 32)).sum().backward()
    assert {name for name, p in classifier.named_parameters() if p.grad is not None} == {"head.1.weight", "head.1.bias"}
    assert all(torch.equal(before[name], value) for name, value in classifier.backbone.state_dict().items())


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norms_keep_their_statistics_and_learn_their_scales(frozen):
    classifier = build(freeze_batch_norms=frozen).train()
    before = classifier.backbone.bn1.running_mean.clone()
    classifier(torch.randn(4, 3, 32, 32) + 1.0).sum().backward()
    assert torch.equal(classifier.backbone.bn1.running_mean, before) == frozen
    assert classifier.backbone.bn1.weight.grad is not None


def test_frozen_layers_keep_weights_and_statistics():
    classifier = build(frozen_layers=3).train()  # the stem and two blocks
    before = {name: value.clone() for name, value in classifier.backbone.state_dict().items()}
    classifier(torch.randn(4, 3, 32, 32) + 1.0).sum().backward()
    trained = {name for name, parameter in classifier.backbone.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in trained)
    assert "layer2.0.conv1.weight" in trained
    assert torch.equal(classifier.backbone.layer1[1].bn2.running_mean, before["layer1.1.bn2.running_mean"])
    assert not torch.equal(classifier.backbone.layer2[0].bn2.running_mean, before["layer2.0.bn2.running_mean"])


def test_freezing_costs_no_backward_pass():
    costs = [
        count_flops(build(train_backbone=trains, frozen_layers=frozen), image_size=32, backward=True)
        for trains, frozen in ((True, 0), (True, 5), (False, 0))
    ]
    forward = count_flops(build(), image_size=32)
    assert 2.8 * forward < costs[0] < 3 * forward  # the images need no gradient
    assert costs[0] > costs[1] > costs[2] > forward
    assert costs[2] == forward + 2 * 512 * 5  # the head's weights


def test_freezing_too_many_layers_is_refused():
    with pytest.raises(InputError, match="frozen_layers: got 9: expected less than 9, the layers of resnet18"):
        build(frozen_layers=9)
    with pytest.raises(InputError, match="frozen_layers: got 1: expected none: all are frozen"):
        build(frozen_layers=1, train_backbone=False)


def test_each_layer_learns_slower_than_the_next():
    scales = build().rate_scales(0.5)
    # timm's layers of resnet18: the stem, eight blocks; then our head
    assert scales["head.1.weight"] == 1.0
    assert scales["backbone.layer4.1.conv1.weight"] == 0.5
    assert scales["backbone.layer4.0.bn2.bias"] == 0.5**2
    assert scales["backbone.conv1.weight"] == 0.5**9
    assert set(scales) == {name for name, _ in build().named_parameters()}


def test_weights_of_another_network_are_refused(published):
    _, path = published
    with pytest.raises(InputError, match="not the weights of timm's mobilenetv2_100"):
        load_pretrained(build(network="mobilenetv2_100"), path, mean=MEAN, std=STD)
    with pytest.raises(InputError, match="no such file"):
        load_pretrained(build(), path.with_name("gone.pth"), mean=MEAN, std=STD)
