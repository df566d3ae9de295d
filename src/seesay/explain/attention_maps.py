"""Where on the image does a word's attention lie, and how spread out is it? Arrays only."""

from __future__ import annotations

import math

import numpy as np


def grid_side(num_places: int) -> int:
    """Places a side of a square grid; `num_places` of a captioner's features is always a square."""
    side = math.isqrt(num_places)
    assert side * side == num_places, num_places
    return side


def enlarged(weights: np.ndarray, side: int) -> np.ndarray:
    """Attention (T, L) of T words over a square grid's places, in rows from the top left, as maps (T, side, side).

    Bilinear between the places' centres. Each map sums to what its word's weights sum to; exactly so where `side` is a
    multiple of the grid's, which it must be.
    """
    grid = grid_side(weights.shape[1])
    assert side % grid == 0, (side, grid)
    spread = _linear(grid, side)
    squares = weights.astype(np.float64).reshape(-1, grid, grid)
    maps: np.ndarray = np.einsum("yi,tij,xj->tyx", spread, squares, spread) * (grid / side) ** 2
    return maps


def entropy_bits(weights: np.ndarray) -> np.ndarray:
    """Shannon entropy of each word's attention, float64 (T,): 0 for one place alone, log2(L) for all places alike."""
    shares = weights.astype(np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    bits: np.ndarray = -(shares * logs).sum(axis=1)
    return bits + 0.0  # not -0.0


def _linear(grid: int, side: int) -> np.ndarray:
    """(side, grid): how much each of the places is in each pixel along one edge; rows sum to one."""
    centres = np.clip((np.arange(side) + 0.5) * grid / side - 0.5, 0, grid - 1)
    weights: np.ndarray = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(grid)))
    return weights
