"""Is what a map points at also what is drawn well? Rank correlation of a map and the reconstruction error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from seesay.seeding import numpy_generator

CELLS = 8
"""Squares a side that an image is divided into where nothing is hidden; single pixels of an error are noise."""


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlations, float64 (n,), of a map and the negative error, over the squares of each image: 1
    where the map is highest exactly where the error is least. `shuffled`: with the map of another image instead.

    An image whose map, borrowed map or error is the same everywhere has no ranks, and is left out of both.
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


def agreement(
    name: str, maps: np.ndarray, squared_errors: np.ndarray, *, patches: np.ndarray | None, seed: int
) -> Agreement | None:
    """`maps` and `squared_errors` are (n, S, S), of the same images; None where fewer than two have ranks.

    `patches`, bool (n, P, P), are those that were hidden, as many in each image: only they are compared, as nothing
    else is completed; None compares all squares. `seed` draws whose map each image gets in the control: each map is
    used once, none by its own image.
    """
    cells = num_cells(maps.shape[1]) if patches is None else patches.shape[1]
    heights, errors = per_cell(maps, cells), per_cell(squared_errors, cells)
    everywhere = np.ones(heights.shape, dtype=bool)
    compared = everywhere if patches is None else patches.reshape(len(patches), -1)
    places = np.nonzero(compared)[1].reshape(len(heights), -1)
    # A cycle through the images in random order: nobody gets back its own.
    order = numpy_generator(seed, "agreement").permutation(len(heights))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    own, theirs, small = (np.take_along_axis(one, places, axis=1) for one in (heights, heights[others], -errors))
    known = np.all([np.ptp(one, axis=1) > 0 for one in (own, theirs, small)], axis=0)
    if known.sum() < 2:
        return None
    own, theirs, small = own[known], theirs[known], small[known]
    return Agreement(name, rank_correlation(own, small), rank_correlation(theirs, small))


def num_cells(size: int) -> int:
    """Squares a side for images of `size` pixels: CELLS, or as many below it as divide the image evenly."""
    return next(count for count in range(min(CELLS, size), 0, -1) if size % count == 0)


def per_cell(values: np.ndarray, cells: int) -> np.ndarray:
    """Means over the squares of each image, `cells` a side: (n, S, S) to float64 (n, cells^2)."""
    step = values.shape[1] // cells
    means: np.ndarray = values.reshape(len(values), cells, step, cells, step).mean(axis=(2, 4), dtype=np.float64)
    return means.reshape(len(values), -1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of `first` with that of `second`, (n, k) to float64 (n,)."""
    ranks = [rankdata(rows, axis=1) for rows in (first, second)]
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in ranks]
    scale = np.sqrt(np.square(centred[0]).sum(axis=1) * np.square(centred[1]).sum(axis=1))
    correlations: np.ndarray = (centred[0] * centred[1]).sum(axis=1) / scale
    return correlations
