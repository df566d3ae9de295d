"""How alike in structure are the patches that were hidden, apart from those that were shown?"""

from __future__ import annotations

import numpy as np
import torch

from seesay.models.structural_similarity import WINDOW, structural_similarity

SMALLEST_PATCH = WINDOW // 2 + 1
"""Pixels a side below which a patch cannot be reflected as far as SSIM's window reaches."""


def patch_similarity(drawn: np.ndarray, images: np.ndarray, patches: np.ndarray, *, batch_size: int) -> np.ndarray:
    """The mean SSIM of each image's patches that are chosen, float64 (n,), each patch taken as an image of its own, so
    that nothing around it counts.

    `drawn` and `images` are uint8 (n, S, S, 3); `patches`, bool (n, P, P), are chosen in each image, S / P pixels a
    side. Raises `InputError` for patches of fewer than 6 pixels a side.
    """
    means = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        chosen = patches[rows]
        first, second = (_cut(one[rows], chosen) for one in (drawn, images))
        values = structural_similarity(first, second).numpy().astype(np.float64)
        counts = chosen.sum(axis=(1, 2))
        ends = np.cumsum(counts)
        means.append(np.add.reduceat(values, ends - counts) / counts)
    return np.concatenate(means)


def _cut(pixels: np.ndarray, patches: np.ndarray) -> torch.Tensor:
    """The chosen patches of uint8 (n, S, S, 3), image by image: floats (m, 3, side, side) in [0, 1]."""
    count, per_side = len(pixels), patches.shape[1]
    side = pixels.shape[1] // per_side
    squares = np.asarray(pixels).reshape(count, per_side, side, per_side, side, 3).transpose(0, 1, 3, 5, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(squares[patches])).float() / 255.0
