"""Bootstrap intervals and paired tests: shares, means and sums over images drawn again with replacement.

The bootstrap: Efron (1979); paired, for corpus scores: Koehn (2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seesay.seeding import numpy_generator

_AT_ONCE = 250
"""Resamples held in memory at a time."""


def mean_interval(values: np.ndarray, *, num_resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of the mean of `values` (n,) over resamples of the images (Efron, 1979).

    The same seed draws the same images for any values of as many images. Of differences between two methods on the same
    images it is the paired interval.
    """
    generator = numpy_generator(seed, "bootstrap", "means")
    means = np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(num_resamples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def with_interval(key: str, values: np.ndarray, *, num_resamples: int, seed: int) -> dict[str, float]:
    """The metrics `key`, the mean, and `key_low` and `key_high`, its interval."""
    low, high = mean_interval(values, num_resamples=num_resamples, seed=seed)
    return {key: float(np.mean(values)), f"{key}_low": low, f"{key}_high": high}


def bootstrap_interval(
    is_right: np.ndarray, *, num_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of a share (Efron, 1979) from a bool per image, over resamples of the images.

    Drawing n of n images with replacement and counting the right ones is drawing from Binomial(n, share), which is
    what is done here: the same distribution at a thousandth of the work.
    """
    n, share = len(is_right), float(np.mean(is_right))
    shares = numpy_generator(seed, "bootstrap").binomial(n, share, size=num_resamples) / n
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int, level: float = 0.95
) -> Difference:
    """Whether two means differ; both arrays (N,) have a value for each of the same images, in the same order.

    Each resample takes both means over the images it drew. `p` is twice the smaller share of resamples whose difference
    is at most, or at least, 0, at most 1; one resample is added on either side, so it is never 0.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    sums = resampled_sums(np.column_stack([first, second]), resamples=resamples, seed=seed)
    means = sums / len(first)
    return difference_of(float(first.mean()), float(second.mean()), means[:, 0] - means[:, 1], level)


def difference_of(first: float, second: float, resampled: np.ndarray, level: float) -> Difference:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    smaller = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p = min(1.0, 2 * (smaller + 1) / (len(resampled) + 1))
    return Difference(first, second, first - second, float(low), float(high), p)


def resampled_sums(columns: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
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
