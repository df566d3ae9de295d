import torch
from torch import nn

from seesay.classification.class_maps import feature_maps, members_of
from seesay.classification.networks.registry import Ensemble

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Two convolutions beside an identity, with one ReLU for both, which works in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images):
        return self.relu(self.second(self.relu(self.first(images))) + images)


def test_maps_come_out_behind_norm_and_nonlinearity_and_before_the_pooling():
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    network = nn.Sequential(block, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)).eval()
    (found,) = feature_maps(network, IMAGES)
    assert found.convolution is block[0]
    assert found.layer is block
    assert torch.equal(found.maps, block(IMAGES))


def test_maps_of_a_residual_block_are_those_behind_its_sum():
    block = Residual()
    first, last = feature_maps(nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES)
    assert torch.equal(last.maps, block(IMAGES))
    assert last.layer is block  # not its ReLU, which is passed twice
    assert torch.equal(first.maps, block.first(IMAGES).relu())
    assert first.layer is block.first


def test_a_convolution_that_sees_one_position_makes_no_map():
    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    convolution = nn.Conv2d(3, 4, 3)
    found = feature_maps(nn.Sequential(convolution, squeeze, nn.Flatten()), IMAGES)
    assert [one.convolution for one in found] == [convolution]


def test_a_network_without_convolutions_has_no_maps():
    assert feature_maps(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), IMAGES) == []


def test_looking_leaves_nothing_behind():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    feature_maps(network, IMAGES)
    assert not any(module._forward_hooks for module in network.modules())


def test_members_of_nested_ensembles_are_found():
    one, two, three = (nn.Linear(1, 1) for _ in range(3))
    assert members_of(Ensemble([Ensemble([one, two]), three])) == [one, two, three]
    assert members_of(one) == [one]
