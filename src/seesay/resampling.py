"""How far could a mean over images have come out otherwise?"""

from __future__ import annotations

import numpy as np

from seesay.seeding import numpy_generator


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
