"""Intervals and paired tests over resampled images."""

import numpy as np
import pytest

from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.image_scores import (
    CORPUS_METRICS,
    ImageScores,
    bootstrap_intervals,
    corpus_scores,
    score_images,
)
from seesay.resampling import paired_bootstrap


def toy(*, right: float, seed: int) -> ImageScores:
    """60 images with two random references; a share of the captions are the first of them."""
    draw = np.random.default_rng(0)
    captions = [[str(word) for word in draw.integers(12, size=draw.integers(5, 9))] for _ in range(180)]
    references = [captions[2 * image : 2 * image + 2] for image in range(60)]
    is_right = np.random.default_rng(seed).random(60) < right
    predictions = [references[image][0] if is_right[image] else captions[120 + image] for image in range(60)]
    return score_images(predictions, references, CiderReferences(references))


def test_an_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    test = paired_bootstrap(values, np.zeros(400), resamples=4000, seed=0)
    half = 1.96 * values.std() / 20
    assert test.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert test.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_corpus_bleu_is_resampled_from_counts_as_if_scored_anew() -> None:
    scores = toy(right=0.5, seed=1)
    rows = np.random.default_rng(5).integers(60, size=(300, 60))
    anew = [
        corpus_scores(ImageScores(scores.bleu[drawn], scores.rouge_l[drawn], scores.cider_d[drawn])) for drawn in rows
    ]
    interval = bootstrap_intervals(scores, resamples=3000, seed=0)
    for name in CORPUS_METRICS:
        low, high = np.quantile([values[name] for values in anew], [0.025, 0.975])
        width = high - low
        assert interval[f"{name}_low"] == pytest.approx(low, abs=0.15 * width)
        assert interval[f"{name}_high"] == pytest.approx(high, abs=0.15 * width)
        assert interval[f"{name}_low"] < corpus_scores(scores)[name] < interval[f"{name}_high"]


def test_a_better_captioner_is_told_from_a_worse_one_and_not_from_itself() -> None:
    good, bad = toy(right=0.8, seed=1).cider_d, toy(right=0.2, seed=2).cider_d
    better = paired_bootstrap(good, bad, resamples=500, seed=0)
    worse = paired_bootstrap(bad, good, resamples=500, seed=0)
    same = paired_bootstrap(good, good, resamples=500, seed=0)
    assert better.p == pytest.approx(2 / 501)  # no resample the other way, one added
    assert 0 < better.low < better.difference < better.high
    assert worse.difference == -better.difference
    assert worse.low == pytest.approx(-better.high)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_equal_captioners_are_called_different_as_often_as_the_level_says() -> None:
    draw = np.random.default_rng(3)
    p = [paired_bootstrap(*draw.normal(size=(2, 80)), resamples=400, seed=0).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.11  # 0.05 with a standard error of 0.015


def test_resamples_depend_on_the_seed_only() -> None:
    scores = toy(right=0.5, seed=1)
    first = bootstrap_intervals(scores, resamples=300, seed=0)
    assert first == bootstrap_intervals(scores, resamples=300, seed=0)
    assert first != bootstrap_intervals(scores, resamples=300, seed=1)
