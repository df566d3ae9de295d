"""How far could caption scores have come out otherwise, and is one captioner really better than another?

Both by resampling images (bootstrap: Efron, 1979; paired, for BLEU: Koehn, 2004). A corpus value is computed anew for
each resample from sums over its images: corpus BLEU is not a mean of sentences' BLEU. CIDEr-D's document frequencies
stay those of all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seesay.evaluation.image_scores import CORPUS_METRICS, ImageScores, corpus_values
from seesay.seeding import numpy_generator

_AT_ONCE = 250
"""Resamples held in memory at a time."""


_AT_ONCE = 250
"""Resamples held in memory at a time."""


@dataclass(frozen=True)
class Difference:
    """One metric of two captioners on the same images: `difference` is first less second, with its interval.

    `p` is two-sided: how often, if the resamples are any guide, the sign would come out the other way.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


def bootstrap_intervals(scores: ImageScores, *, resamples: int, seed: int, level: float = 0.95) -> dict[str, float]:
    """`bleu4_low`, `bleu4_high` and so on: the percentile intervals of corpus `bleu4`, `rouge_l` and `cider_d`.

    The same seed draws the same resamples for any captions of as many images.
    """
    sums = _resampled_sums(scores.columns(), resamples=resamples, seed=seed)
    found: dict[str, float] = {}
    for name, values in corpus_values(sums, len(scores)).items():
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        found |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return found


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int, level: float = 0.95
) -> Difference:
    """Whether two means differ; both arrays (N,) have a value for each of the same images, in the same order.

    Each resample takes both means over the images it drew. `p` is twice the smaller share of resamples whose difference
    is at most, or at least, 0, at most 1; one resample is added on either side, so it is never 0.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    sums = _resampled_sums(np.column_stack([first, second]), resamples=resamples, seed=seed)
    means = sums / len(first)
    return _difference(float(first.mean()), float(second.mean()), means[:, 0] - means[:, 1], level)


def paired_bootstrap_of_corpora(
    first: ImageScores, second: ImageScores, *, resamples: int, seed: int, level: float = 0.95
) -> dict[str, Difference]:
    """The same for corpus `bleu4`, `rouge_l` and `cider_d`, by metric, of captions for the same images."""
    assert len(first) == len(second), (len(first), len(second))
    both = np.column_stack([first.columns(), second.columns()])
    sums = np.split(_resampled_sums(both, resamples=resamples, seed=seed), 2, axis=1)
    totals = np.split(both.sum(axis=0)[None], 2, axis=1)
    resampled = [corpus_values(half, len(first)) for half in sums]
    values = [corpus_values(half, len(first)) for half in totals]
    return {
        name: _difference(
            float(values[0][name][0]), float(values[1][name][0]), resampled[0][name] - resampled[1][name], level
        )
        for name in CORPUS_METRICS
    }


def _difference(first: float, second: float, resampled: np.ndarray, level: float) -> Difference:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    smaller = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p = min(1.0, 2 * (smaller + 1) / (len(resampled) + 1))
    return Difference(first, second, first - second, float(low), float(high), p)


def _resampled_sums(columns: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """(resamples, K): sums of the (N, K) columns over N images drawn with replacement, again and again."""
    num_images = len(columns)
    generator = numpy_generator(seed, "captions", "bootstrap")
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        drawn = generator.integers(num_images, size=(size, num_images)) + num_images * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_images).reshape(size, num_images)
        sums[start : start + size] = times.astype(np.float64) @ columns
    return sums
