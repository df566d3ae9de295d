"""How far could caption scores have come out otherwise, and is one captioner really better than another?

Both by resampling images (bootstrap: Efron, 1979; paired, for BLEU: Koehn, 2004). A corpus value is computed anew for each
resample from sums over its images: corpus BLEU is not a mean of sentences' BLEU. CIDEr-D's document frequencies stay
those of all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seesay.evaluation.image_scores import CORPUS_METRICS, ImageScores, corpus_values
from seesay.seeding import numpy_generator

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


def bootstrap_intervals(
    scores: ImageScores, *, num_resamples: int, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """The percentile interval of corpus `bleu4`, `rouge_l` and `cider_d` over resamples of the images.

    The same seed draws the same resamples for any captions of as many images.
    """
    sums = _resampled_sums(scores.columns(), num_resamples=num_resamples, seed=seed)
    bounds = [(1 - level) / 2, (1 + level) / 2]
    found = {name: np.quantile(values, bounds) for name, values in corpus_values(sums, len(scores)).items()}
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}


def paired_bootstrap(
    first: ImageScores, second: ImageScores, *, num_resamples: int, seed: int, level: float = 0.95
) -> dict[str, Difference]:
    """By metric, whether `first` differs from `second`: captions for the same images, in the same order.

    Each resample scores both on the images it drew. `p` is twice the smaller share of resamples whose difference is at
    most, or at least, 0, at most 1; one resample is added on either side, so it is never 0.
    """
    assert len(first) == len(second), (len(first), len(second))
    both = np.column_stack([first.columns(), second.columns()])
    width = both.shape[1] // 2
    sums = _resampled_sums(both, num_resamples=num_resamples, seed=seed)
    resampled = [corpus_values(half, len(first)) for half in (sums[:, :width], sums[:, width:])]
    total = both.sum(axis=0)[None]
    values = [corpus_values(half, len(first)) for half in (total[:, :width], total[:, width:])]
    found: dict[str, Difference] = {}
    for name in CORPUS_METRICS:
        differences = resampled[0][name] - resampled[1][name]
        one, other = (float(of_captioner[name][0]) for of_captioner in values)
        low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
        smaller = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
        p = min(1.0, 2 * (smaller + 1) / (num_resamples + 1))
        found[name] = Difference(one, other, one - other, float(low), float(high), p)
    return found


def _resampled_sums(columns: np.ndarray, *, num_resamples: int, seed: int) -> np.ndarray:
    """(num_resamples, K): sums of the (N, K) columns over N images drawn with replacement, again and again."""
    num_images = len(columns)
    generator = numpy_generator(seed, "captions", "bootstrap")
    sums = np.empty((num_resamples, columns.shape[1]))
    for start in range(0, num_resamples, _AT_ONCE):
        size = min(_AT_ONCE, num_resamples - start)
        drawn = generator.integers(num_images, size=(size, num_images)) + num_images * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_images).reshape(size, num_images)
        sums[start : start + size] = times.astype(np.float64) @ columns
    return sums
