import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from seesay.classification.metrics import NUM_BINS, cross_entropy, fit_temperature, reliability, scale_logits
from seesay.classification.predictions import SplitPredictions


def two_classes(*answers):
    """An image per (probability of the first class, label)."""
    logits = [[math.log(share), math.log(1 - share)] for share, _ in answers]
    return SplitPredictions(np.array(logits, dtype=np.float32), np.array([label for _, label in answers]), ("a", "b"))


def random_predictions(seed, *, scale):
    """Labels drawn from the softmax of the logits that are then multiplied by `scale`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(4000, 5)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > generator.random((4000, 1))).argmax(axis=1)
    return SplitPredictions((scale * logits).astype(np.float32), labels, tuple("abcde"))


def test_the_error_is_the_one_worked_by_hand():
    # Bins of a 15th: 0.9 twice in (13/15, 14/15], half of them right; 0.6 in (8/15, 9/15], right.
    found = reliability(two_classes((0.9, 0), (0.9, 1), (0.59, 0)))
    assert found.counts.tolist() == [0] * 8 + [1] + [0] * 4 + [2] + [0]
    assert found.accuracy[13] == 0.5
    assert found.error == pytest.approx((2 * 0.4 + 1 * 0.41) / 3, abs=1e-6)


def test_the_error_is_torchmetrics_error():
    split = random_predictions(0, scale=2.0)
    theirs = multiclass_calibration_error(
        torch.tensor(split.probabilities), torch.tensor(split.labels), num_classes=5, n_bins=NUM_BINS
    )
    assert reliability(split).error == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_how_much_too_sure_a_classifier_is(scale):
    split = random_predictions(1, scale=scale)
    assert fit_temperature(split) == pytest.approx(scale, rel=0.06)


def test_no_other_temperature_has_a_lower_loss_on_what_it_is_fitted_on():
    split = random_predictions(2, scale=1.7)
    temperature = fit_temperature(split)
    best = cross_entropy(scale_logits(split, temperature))
    assert best < min(cross_entropy(scale_logits(split, temperature * factor)) for factor in (0.9, 0.99, 1.01, 1.1))


def test_a_fitted_temperature_mends_calibration_and_changes_no_decision():
    val, test = random_predictions(3, scale=3.0), random_predictions(4, scale=3.0)
    calibrated = scale_logits(test, fit_temperature(val))
    assert np.array_equal(calibrated.predicted, test.predicted)
    assert reliability(calibrated).error < 0.3 * reliability(test).error


def test_a_classifier_that_is_always_right_has_a_temperature_within_bounds():
    assert 0.05 <= fit_temperature(two_classes((0.9, 0), (0.1, 1))) < 0.1
    assert 15 < fit_temperature(two_classes((0.9, 1), (0.1, 0))) <= 20
