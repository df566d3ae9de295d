import numpy as np
import pytest

from seesay.classification.compare import compare_neighbours, mcnemar
from seesay.classification.predictions import SplitPredictions
from seesay.resampling import bootstrap_interval


def right(num_right, num_images):
    return np.arange(num_images) < num_right


def test_the_interval_is_about_two_standard_errors_wide():
    low, high = bootstrap_interval(right(700, 1000), num_resamples=20_000, seed=0)
    error = (0.7 * 0.3 / 1000) ** 0.5  # 0.01449
    assert low == pytest.approx(0.7 - 1.96 * error, abs=0.0015)
    assert high == pytest.approx(0.7 + 1.96 * error, abs=0.0015)


def test_the_interval_is_that_of_resampled_images():
    is_right = right(13, 20)
    resampled = np.random.default_rng(0).choice(is_right, size=(20_000, 20)).mean(axis=1)
    expected = np.quantile(resampled, [0.025, 0.975])
    assert bootstrap_interval(is_right, num_resamples=20_000, seed=1) == pytest.approx(expected, abs=0.051)


def test_the_seed_decides_and_a_perfect_classifier_has_no_spread():
    one, same, other = (bootstrap_interval(right(7, 10), num_resamples=9, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert bootstrap_interval(right(10, 10), num_resamples=9, seed=0) == (1.0, 1.0)


def test_mcnemar_is_the_binomial_test_worked_by_hand():
    # Only the first is right 5 times, only the second once: 2 (C(6,5) + C(6,6)) / 2^6 = 14 / 64
    first = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)
    second = np.array([0, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    result = mcnemar(first, second)
    assert (result.b, result.c) == (5, 1)
    assert result.p == pytest.approx(14 / 64)
    assert mcnemar(second, first).p == result.p


def test_classifiers_that_agree_on_every_image_do_not_differ():
    assert mcnemar(right(3, 5), right(3, 5)).p == 1.0


def test_neighbours_in_the_ranking_of_each_dataset_are_compared():
    def answers(num_right):
        logits = np.stack([right(num_right, 10), ~right(num_right, 10)], axis=1).astype(np.float32)
        return SplitPredictions(logits, np.zeros(10, dtype=np.int64), ("a", "b"))

    scores = {"low": 3, "high": 9, "middle": 6, "alone": 5, "tied": 6}
    rows = [
        {"cell": cell, "dataset": "other" if cell == "alone" else "d", "test/top1": score / 10}
        for cell, score in scores.items()
    ]
    found = compare_neighbours(rows, {cell: answers(score) for cell, score in scores.items()})
    assert {cell: row["mcnemar/next"] for cell, row in found.items()} == {
        **{"high": "middle", "middle": "tied", "tied": "low"},
    }
    assert found["high"] == {"mcnemar/next": "middle", "mcnemar/b": 3, "mcnemar/c": 0, "mcnemar/p": 0.25}
