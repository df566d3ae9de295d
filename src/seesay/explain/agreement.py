"""Is what a map points at also what is drawn well? Rank correlation of a map and the reconstruction error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from seesay.seeding import numpy_generator

CELLS = 8
"""Squares a side that an image is divided into; single pixels of an error are noise."""


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlations, float64 (n,), of a map and the negative error, over the squares of each image: 1
    where the map is highest the error is least. `shuffled`: with the map of another image instead.

    An image whose map or error is the same everywhere has no ranks, and is left out of both.
    """

    name: str
    correlations: np.ndarray
    shuffled: np.ndarray

    def metrics(self) -> dict[str, float]:
        """The means: `agreement/<name>` and `agreement/<name>_shuffled`."""
        return {
            f"agreement/{self.name}": float(np.mean(self.correlations)),
            f"agreement/{self.name}_shuffled": float(np.mean(self.shuffled)),
        }


def agreement(name: str, maps: np.ndarray, squared_errors: np.ndarray, *, seed: int) -> Agreement | None:
    """`maps` and `squared_errors` are (n, S, S), of the same images; None where fewer than two have ranks.

    `seed` draws whose map each image gets in the control: each map is used once, none by its own image.
    """
    highs, lows = per_cell(maps), -per_cell(squared_errors)
    known = (np.ptp(highs, axis=1) > 0) & (np.ptp(lows, axis=1) > 0)
    highs, lows = highs[known], lows[known]
    if len(highs) < 2:
        return None
    # A cycle through the images in random order: nobody gets back its own.
    order = numpy_generator(seed, "agreement").permutation(len(highs))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return Agreement(name, rank_correlation(highs, lows), rank_correlation(highs[others], lows))


def per_cell(values: np.ndarray) -> np.ndarray:
    """Means over the squares of each image: (n, S, S) to float64 (n, CELLS^2); fewer squares where S needs it."""
    size = values.shape[1]
    cells = next(count for count in range(min(CELLS, size), 0, -1) if size % count == 0)
    step = size // cells
    means: np.ndarray = values.reshape(len(values), cells, step, cells, step).mean(axis=(2, 4), dtype=np.float64)
    return means.reshape(len(values), -1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of `first` with that of `second`, (n, k) to float64 (n,)."""
    ranks = [rankdata(rows, axis=1) for rows in (first, second)]
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in ranks]
    scale = np.sqrt(np.square(centred[0]).sum(axis=1) * np.square(centred[1]).sum(axis=1))
    correlations: np.ndarray = (centred[0] * centred[1]).sum(axis=1) / scale
    return correlations
