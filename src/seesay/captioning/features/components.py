"""Dimensionality reduction of features: principal components of the train split's features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seesay.arrays import one_blas_thread
from seesay.core.errors import InputError

_ROWS_AT_A_TIME = 256


@dataclass(frozen=True)
class Components:
    """Principal components: `mean` (D,) and orthonormal `axes` (K, D), float64, the axis of most variance first.

    `explained` is the share of the train split's variance that the axes explain.
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: float

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Return the coordinates (..., K), float32, of features (..., D)."""
        coordinates: np.ndarray = (rows.astype(np.float64) - self.mean) @ self.axes.T
        return coordinates.astype(np.float32)


@one_blas_thread()
def fit_components(features: np.ndarray, train_rows: Sequence[int], *, num_components: int, name: str) -> Components:
    """Fit the components of features (N, D), or of each position of (N, L, D), on the train split's rows alone.

    Computed in float64, first the mean and then the covariance, streamed over rows. Each axis has the sign that makes
    its largest entry positive, so that equal features give equal components. Raises `InputError`, naming `name`, if
    there are fewer dimensions or examples than components.
    """
    dimensions = features.shape[-1]
    num_examples = len(train_rows) * int(np.prod(features.shape[1:-1]))
    max_components = min(dimensions, num_examples - 1)
    if num_components > max_components:
        raise InputError(
            f"{name}: num_components: got {num_components}: expected at most {max_components}: there are {dimensions} "
            f"dimensions and {num_examples} examples in the train split"
        )
    total = np.zeros(dimensions)
    for block in _blocks(features, train_rows):
        total += block.sum(axis=0)
    mean = total / num_examples
    covariance = np.zeros((dimensions, dimensions))
    for block in _blocks(features, train_rows):
        centred = block - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / num_examples)  # ascending
    axes = np.ascontiguousarray(vectors[:, ::-1][:, :num_components].T)
    largest_entry = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest_entry])[:, None]
    values = values[::-1].clip(min=0.0)
    total_variance = float(values.sum())
    explained = float(values[:num_components].sum()) / total_variance if total_variance else 1.0
    return Components(mean, axes, explained)


@one_blas_thread()
def write_projected(source: np.ndarray, components: Components, path: Path) -> None:
    """Write the projection of `source` (N, ..., D), as float16, to a `.npy` file.

    Raises `InputError` if a value is too large for float16.
    """
    shape = (*source.shape[:-1], len(components.axes))
    target = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape, version=(1, 0))
    for start in range(0, len(source), _ROWS_AT_A_TIME):
        with np.errstate(over="ignore"):
            halves = components.project(source[start : start + _ROWS_AT_A_TIME]).astype(np.float16)
        if not np.isfinite(halves).all():
            raise InputError(f"{path.stem} features: their principal components are too large for float16")
        target[start : start + len(halves)] = halves
    target.flush()


def _blocks(features: np.ndarray, rows: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the vectors of `rows` in float64 (M, D), some rows at a time."""
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        block = features[rows[start : start + _ROWS_AT_A_TIME]]
        yield block.reshape(-1, block.shape[-1]).astype(np.float64)
