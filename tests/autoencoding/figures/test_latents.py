import numpy as np

from seesay.autoencoding.figures.reconstructions import (
    NUM_PAIRS,
    choose_at_random,
    choose_pairs,
    principal_plane,
    spread,
    without_hidden,
)
from seesay.params.results import Evaluation

SETTINGS = Evaluation(batch_size=8, panel_images=6, panel_seed=0, bootstrap_resamples=10, bootstrap_seed=0)


def test_pairs_are_of_two_classes_and_no_image_is_in_two():
    labels = np.arange(40) % 3
    pairs = choose_pairs(labels, SETTINGS)
    assert pairs.shape == (NUM_PAIRS, 2)
    assert len(np.unique(pairs)) == 2 * NUM_PAIRS
    assert (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all()


def test_of_one_class_there_are_no_pairs():
    assert choose_pairs(np.zeros(10), SETTINGS).shape == (0, 2)


def test_panels_show_the_same_images_of_every_autoencoder():
    chosen = choose_at_random(100, count=6, seed=0)
    assert np.array_equal(chosen, choose_at_random(100, count=6, seed=0))
    assert len(np.unique(chosen)) == 6
    assert len(choose_at_random(4, count=6, seed=0)) == 4


def test_hidden_pixels_are_grey():
    images, hidden = np.full((1, 2, 2, 3), 9, np.uint8), np.array([[[True, False], [False, False]]])
    shown = without_hidden(images, hidden)
    assert (shown[0, 0, 0] == 128).all()
    assert (shown[~hidden] == 9).all()


def test_an_outlier_does_not_decide_the_principal_components():
    """Two classes two deviations apart, and one image with a latent of 400 deviations."""
    random = np.random.default_rng(0)
    latents = random.normal(size=(200, 8)) * 0.5
    latents[:, 0] += np.repeat([-1.0, 1.0], 100)
    latents[7, 3] = 400.0
    points, shares = principal_plane(latents)
    assert points.shape == (200, 2)
    assert abs(points[:100, 0].mean() - points[100:, 0].mean()) > 1.8
    assert np.abs(points).max() < 6
    assert 0.2 < shares[0] < 0.6


def test_names_are_spread_so_that_none_lies_on_another():
    heights = [0.1, 0.1, 0.1, 0.5, 0.99, 0.99]
    moved = spread(heights, gap=0.05)
    assert min(np.diff(moved)) >= 0.05 - 1e-9
    assert max(moved) <= 1.0
    assert moved[3] == 0.5
    crowded = spread([0.5] * 100, gap=0.05)
    assert np.allclose(np.diff(crowded), 0.01)
    assert crowded[0] >= 0.0
    assert spread([]) == []
