import numpy as np
import pytest
import torch
from torch import nn

from seesay.classification.class_maps import class_maps
from seesay.classification.networks.registry import CLASSIFIERS, Ensemble


class ColourNetwork(nn.Module):
    """Logits are the mean red and the mean blue, each times a weight."""

    def __init__(self, red, blue):
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).view(2, 3, 1, 1))
            self.head.weight.copy_(torch.tensor([[red, 0.0], [0.0, blue]]))

    def forward(self, images):
        return self.head(self.convolution(images).mean(dim=(2, 3)))


@pytest.fixture
def corners():
    """Red 4 at the top left and 2 at the bottom right, blue 3 at the bottom left."""
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0] = torch.tensor([[4.0, 0], [0, 2]])
    image[0, 2] = torch.tensor([[0.0, 0], [3, 0]])
    return image


def test_grad_cam_shows_where_the_class_s_features_are(corners):
    """A channel weighs the mean gradient of the class's logit, here the head's weight over 4 positions."""
    found = class_maps(ColourNetwork(1.0, 5.0), corners.repeat(2, 1, 1, 1), torch.tensor([0, 1]))
    assert found.is_grad_cam
    assert found.num_networks == 1
    np.testing.assert_allclose(found.maps, [[[1, 0], [0, 0.5]], [[0, 0], [1, 0]]])


def test_where_nothing_speaks_for_the_class_the_map_is_zero(corners):
    assert not class_maps(ColourNetwork(-1.0, 1.0), corners, torch.tensor([0])).maps.any()


def test_an_ensemble_s_map_is_the_mean_of_its_members_maps(corners):
    """One sees red at [[1, 0], [0, 1/2]], the other takes blue for it, at [[0, 0], [1, 0]], and is surer."""
    other = ColourNetwork(100.0, 1.0)
    with torch.no_grad():
        other.convolution.weight.copy_(other.convolution.weight.flip(0))
    found = class_maps(Ensemble([ColourNetwork(1.0, 1.0), other]), corners, torch.tensor([0]))
    assert found.num_networks == 2
    np.testing.assert_allclose(found.maps, [[[1, 0], [1, 0.5]]])


def test_without_convolutions_the_map_is_the_gradient_at_the_pixels():
    """It is averaged over each pixel's neighbourhood."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 11 * 11, 2, bias=False))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].weight.view(2, 3, 11, 11)[1, :, 5, 5] = torch.tensor([0.1, -7.0, 0.3])
    found = class_maps(network, torch.zeros(1, 3, 11, 11), torch.tensor([1]))
    expected = np.zeros((11, 11))
    expected[3:8, 3:8] = 1
    assert not found.is_grad_cam
    np.testing.assert_allclose(found.maps[0], expected)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_is_explained_and_left_as_it_was(contract, name):
    classifier, size = contract.build(name).eval(), contract.IMAGE_SIZE
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    found, again = (class_maps(classifier, images, torch.tensor([0, 1, 2])) for _ in range(2))
    assert found.is_grad_cam == (name != "mlp")
    assert found.maps.shape == (3, size, size)
    assert found.maps.dtype == np.float32
    assert set(found.maps.max(axis=(1, 2))) <= {0.0, 1.0}
    assert found.maps.min() >= 0
    assert np.array_equal(found.maps, again.maps)
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert not images.requires_grad


def test_a_linear_probe_is_explained_through_its_frozen_backbone(contract):
    probe, size = contract.build("pretrained", train_backbone=False).eval(), contract.IMAGE_SIZE
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    free = contract.build("pretrained").eval()
    classes = torch.tensor([0, 1])
    found = class_maps(probe, images, classes)
    assert found.maps.any()
    assert np.array_equal(found.maps, class_maps(free, images, classes).maps)
    assert not probe.train_backbone
