"""Which training images lie nearest to a test image among the latents, and are they of its class?"""

from __future__ import annotations

import numpy as np

_ROWS = 500  # test images compared at a time, so that no array of all pairs is made


def nearest_neighbours(of: np.ndarray, among: np.ndarray, *, count: int) -> np.ndarray:
    """For each row of `of` (n, D) the `count` rows of `among` (m, D) with the highest cosine, highest first: int64."""
    first, second = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (of, among))
    found = []
    for start in range(0, len(first), _ROWS):
        cosines = first[start : start + _ROWS] @ second.T
        found.append(np.argsort(-cosines, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def share_of_same_class(neighbours: np.ndarray, *, labels: np.ndarray, of_train: np.ndarray) -> np.ndarray:
    """For each test image the share of its neighbours that have its label, float64 (n,)."""
    same: np.ndarray = of_train[neighbours] == labels[:, None]
    shares: np.ndarray = same.mean(axis=1)
    return shares
