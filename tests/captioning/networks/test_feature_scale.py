import numpy as np
import pytest
import torch

from seesay.captioning.networks import layers as feature_scale
from seesay.captioning.networks.layers import FeatureScale


def test_scaled_features_have_mean_zero_and_variance_one():
    features = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    scale = FeatureScale(2)
    assert torch.equal(scale(features), features), "before it is told of any features it does nothing"
    scale.measure(features.half())
    assert scale(features).tolist() == [[-1.0, -1.0], [1.0, 1.0]]


def test_a_grid_is_scaled_by_what_all_its_places_have_in_common():
    # Dimension 0 over images and places: 1, 3, 5, 7, of mean 4 and variance (9 + 1 + 1 + 9) / 4 = 5.
    grid = torch.tensor([[[1.0, 0.0], [3.0, 2.0]], [[5.0, 0.0], [7.0, 2.0]]])
    scale = FeatureScale(2)
    scale.measure(grid)
    assert scale.mean.tolist() == [4.0, 1.0]
    assert scale.std.tolist() == pytest.approx([5.0**0.5, 1.0])
    assert scale(grid)[0, :, 1].tolist() == [-1.0, 1.0]


def test_a_feature_that_never_moves_stays_finite():
    scale = FeatureScale(2)
    scale.measure(torch.tensor([[5.0, 0.0], [5.0, 1.0]]))
    assert scale(torch.tensor([[5.0, 0.0]])).isfinite().all()


@pytest.mark.parametrize("shape", [(37, 3), (37, 4, 3)])
def test_features_are_measured_in_parts_as_if_they_were_one(shape, monkeypatch):
    # A mean of 1,000 with a deviation of 1: a sum of squares in float32 would lose it.
    array = np.random.default_rng(0).normal(1000.0, 1.0, shape).astype(np.float16)
    monkeypatch.setattr(feature_scale, "_VALUES_AT_ONCE", 3 * int(np.prod(shape[1:])))
    scale = FeatureScale(3)
    scale.measure(torch.from_numpy(array))
    values = array.reshape(-1, 3).astype(np.float64)
    assert scale.mean.numpy() == pytest.approx(values.mean(axis=0), rel=1e-6)
    assert scale.std.numpy() == pytest.approx(values.std(axis=0), rel=1e-6)
