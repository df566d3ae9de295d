"""What does a captioner look at while it says each word? Its attention, taught with the caption itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seesay.compute import Compute
from seesay.errors import InputError
from seesay.models.captioner import Captioner
from seesay.models.special_tokens import BOS, PAD


@torch.inference_mode()
def attend(
    captioner: Captioner,
    grid: np.ndarray,
    rows: Sequence[int],
    captions: Sequence[Sequence[int]],
    *,
    batch_size: int,
    compute: Compute,
) -> list[np.ndarray]:
    """For each caption of T words its attention, float32 (T, L): row t is what is looked at as word t is said.

    `captions` are the word ids of the images at `rows` of `grid` (N, L, D), without <bos> and <eos>; a caption without
    a word gives an array of no rows. Raises `InputError` where weights are negative, not finite or do not sum to one.
    """
    assert captioner.looks_at == "grid", "only a grid has places to look at"
    assert len(rows) == len(captions), (len(rows), len(captions))
    captioner.to(compute.device).eval()
    num_places = grid.shape[1]
    found = [np.zeros((0, num_places), np.float32)] * len(captions)
    spoken = [number for number, caption in enumerate(captions) if caption]
    spoken.sort(key=lambda number: len(captions[number]))  # little padding in a batch
    for start in range(0, len(spoken), batch_size):
        numbers = spoken[start : start + batch_size]
        longest = max(len(captions[number]) for number in numbers)
        tokens = torch.full((len(numbers), longest), PAD, dtype=torch.int64)
        for place, number in enumerate(numbers):
            before = [BOS, *captions[number][:-1]]  # what is known as each word is said
            tokens[place, : len(before)] = torch.tensor(before)
        seen = np.stack([grid[rows[number]] for number in numbers]).astype(np.float32)
        weights = captioner.attention(torch.from_numpy(seen).to(compute.device), tokens.to(compute.device))
        kept = weights.float().cpu().numpy()
        assert kept.shape == (len(numbers), longest, num_places), kept.shape
        for place, number in enumerate(numbers):
            found[number] = _checked(kept[place, : len(captions[number])], rows[number])
    return found


def _checked(weights: np.ndarray, row: int) -> np.ndarray:
    sums = weights.sum(axis=1)
    if not np.isfinite(weights).all() or (weights < 0).any() or np.abs(sums - 1).max() > 1e-3:
        raise InputError(f"row {row} of the features: attention: expected shares that sum to one, got sums {sums[:5]}")
    return weights
