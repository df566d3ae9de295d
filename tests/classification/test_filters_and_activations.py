from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seesay.classification.explain import contrasting_maps, first_filters
from seesay.classification.networks.registry import CLASSIFIERS, Ensemble, build_classifier
from seesay.params.classification import ENSEMBLE, PRETRAINED
from seesay.params.project import load_params

ROOT = Path(__file__).resolve().parents[2]


def test_filters_are_colours_around_grey_each_on_its_own_scale():
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 5, 1), nn.Flatten())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[2.0, -1.0, 0.0], [0.0, 0.0, -0.1]]).view(2, 3, 1, 1))
    found = first_filters(network, image_size=4)
    assert found.is_convolution
    assert found.num_filters == 2
    # 0.5 + 0.5 * (1, -1/2, 0), and 0.5 + 0.5 * (0, 0, -1)
    np.testing.assert_allclose(found.pictures[:, 0, 0], [[1.0, 0.25, 0.5], [0.5, 0.5, 0.0]])


def test_units_of_a_dense_layer_are_pictures_of_the_whole_image():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 20, bias=False), nn.ReLU(), nn.Linear(20, 2))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].weight[0, 16 + 4 * 1 + 2] = 3.0  # green, row 1, column 2
    found = first_filters(network, image_size=4)
    assert not found.is_convolution
    assert found.num_filters == 20
    assert found.pictures.shape == (12, 4, 4, 3)
    expected = np.full((4, 4, 3), 0.5)
    expected[1, 2, 1] = 1.0
    np.testing.assert_allclose(found.pictures[0], expected)


def test_a_network_that_begins_with_neither_has_no_filters():
    assert first_filters(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 2)), image_size=4) is None


def test_activations_are_of_the_first_middle_and_last_convolution():
    """Of five convolutions each makes of its first channel: the same, one of opposite sign, one twice as strong."""
    layers = [nn.Conv2d(3, 3, 1, bias=False) for _ in range(5)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.weight[:, 0, 0, 0] = torch.tensor([1.0, -5.0, 2.0])
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = contrasting_maps(nn.Sequential(*layers, nn.Flatten()), image, count=2)
    assert [(one.number, one.num_layers, one.num_maps) for one in found] == [(1, 5, 3), (3, 5, 3), (5, 5, 3)]
    red = image[0, 0].numpy()
    for one in found:  # the negative map is zero, which has less contrast than both
        np.testing.assert_allclose(one.maps, [2 * red, red], rtol=1e-6)


def test_a_map_that_is_high_everywhere_comes_after_one_that_is_not():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[1, 0] = 1.0
        network[0].bias.copy_(torch.tensor([9.0, 0.0]))
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    (found,) = contrasting_maps(network, image, count=2)
    np.testing.assert_allclose(found.maps, [image[0, 0].numpy(), np.full((4, 4), 9.0)])


def test_of_an_ensemble_the_first_member_is_shown():
    one, two = (nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()) for _ in range(2))
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    together = Ensemble([one, two])
    alone = first_filters(one, image_size=8)
    assert np.array_equal(first_filters(together, image_size=8).pictures, alone.pictures)
    assert np.array_equal(
        contrasting_maps(together, image, count=1)[0].maps, contrasting_maps(one, image, count=1)[0].maps
    )


def test_every_classifier_of_the_real_data_shows_filters_of_three_channels():
    """With all its options: the first layer of some is frozen whitening, which is no `nn.Conv2d`."""
    for name, experiment in load_params(ROOT).classifiers.items():
        architecture = experiment.architecture
        if architecture.name in (ENSEMBLE, PRETRAINED):
            continue
        classifier = build_classifier(architecture, num_classes=30, image_size=64, seed=0, key=name)
        assert first_filters(classifier, image_size=64).pictures.shape[-1] == 3, name


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_shows_its_filters_and_convolutional_ones_maps(contract, name):
    classifier, size = contract.build(name).eval(), contract.IMAGE_SIZE
    filters = first_filters(classifier, image_size=size)
    assert 0 <= filters.pictures.min() < 0.5 < filters.pictures.max() <= 1
    layers = contrasting_maps(classifier, torch.rand(1, 3, size, size), count=8)
    assert bool(layers) == filters.is_convolution == (name != "mlp")
    for one in layers:
        assert one.maps.shape[0] == min(8, one.num_maps)
        assert one.maps.min() >= 0
        assert one.maps.shape[1] > 1
