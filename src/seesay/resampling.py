"""Bootstrap intervals and paired tests of shares, means and sums over images.

The bootstrap is that of Efron (1979), the paired test for corpus scores that of Koehn (2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seesay.seeding import numpy_generator

_AT_ONCE = 250
"""The number of resamples in memory at a time."""


def mean_interval(values: np.ndarray, *, num_resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of the mean of `values` (n,) over resamples of the images (Efron, 1979).

    The same seed draws the same images for all arrays of the same length. For differences between two methods on the
    same images, this is the paired interval.
    """
    generator = numpy_generator(seed, "bootstrap", "means")
    means = np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(num_resamples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def with_interval(key: str, values: np.ndarray, *, num_resamples: int, seed: int) -> dict[str, float]:
    """Return the mean as `key`, and its interval as `key_low` and `key_high`."""
    low, high = mean_interval(values, num_resamples=num_resamples, seed=seed)
    return {key: float(np.mean(values)), f"{key}_low": low, f"{key}_high": high}


def bootstrap_interval(
    is_right: np.ndarray, *, num_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the share of right images over resamples of the images (Efron, 1979).

    `is_right` has a bool per image. The number of right images among n of n drawn with replacement has the distribution
    Binomial(n, share). The function draws from this distribution, at a thousandth of the cost.
    """
    n, share = len(is_right), float(np.mean(is_right))
    shares = numpy_generator(seed, "bootstrap").binomial(n, share, size=num_resamples) / n
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """One metric of two captioners on the same images: `difference` is first minus second, with its interval.

    `p` is two-sided. It estimates from the resamples how often the difference would have the other sign.
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
    """Test the difference of two means. Both arrays are (N,), with values for the same images in the same order.

    Each resample has both means over the same drawn images. Two shares of resamples are computed: those with a
    difference of at most 0, and those with a difference of at least 0. `p` is twice the smaller share, and at most 1.
    One is added to the count and to the number of resamples, so that `p` is never 0.
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
    """Return (resamples, K): in each resample, the sums of the (N, K) columns over N images drawn with replacement."""
    num_images = len(columns)
    generator = numpy_generator(seed, "captions", "bootstrap")
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        drawn = generator.integers(num_images, size=(size, num_images)) + num_images * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_images).reshape(size, num_images)
        sums[start : start + size] = counts.astype(np.float64) @ columns
    return sums
