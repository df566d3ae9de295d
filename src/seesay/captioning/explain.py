"""Attention of a captioner at each word of its own captions, kept in a folder with the words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from seesay.arrays import read_array, write_array
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import BOS, PAD, UNK, Vocabulary
from seesay.captioning.features.combined import CaptionerInputs
from seesay.captioning.features.store import Features
from seesay.captioning.networks.base import Captioner
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, read_json, write_json
from seesay.core.settings import validate

SCHEMA_VERSION = 1
NO_ATTENTION = "This captioner uses pooled features: one vector per image, without attention to parts of it."


@dataclass(frozen=True)
class CaptionAttention:
    """`words` and attention `weights` (T, L), float16, by image id; both empty where `looks_at` is "pooled".

    `crop_share` is the side of the encoder's centred square crop as a share of the image's shorter side.
    """

    looks_at: str
    crop_share: float
    words: Mapping[int, tuple[str, ...]]
    weights: Mapping[int, np.ndarray]


def explain_captions(
    captioner: Captioner,
    features: Sequence[Features],
    captions: CaptionRecords,
    vocabulary: Vocabulary,
    predictions: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    compute: Compute,
) -> CaptionAttention:
    """Return the captioner's attention at each word of its own test captions.

    `predictions` are `{"image_id", "caption"}` in the records' order. A captioner on pooled features has no attention.
    Raises `InputError` for a word that the vocabulary lacks: then another captioner made the captions.
    """
    transform = features[0].index.transform
    crop_share = transform["image_size"] / transform["resize_size"]
    if captioner.looks_at != "grid":
        return CaptionAttention(captioner.looks_at, crop_share, {}, {})
    words = {int(one["image_id"]): tuple(str(one["caption"]).split()) for one in predictions}
    ids = {image_id: vocabulary.encode(caption) for image_id, caption in words.items()}
    for image_id, tokens in ids.items():
        if UNK in tokens:
            unknown = words[image_id][tokens.index(UNK)]
            raise InputError(
                f"captions of {captions.name}: image {image_id}: {unknown!r} is not in the captioner's vocabulary: "
                "run caption_images again"
            )
    weights = compute_attention(
        captioner,
        CaptionerInputs(captioner.inputs(), features).rows,
        captions.rows("test"),
        list(ids.values()),
        batch_size=batch_size,
        device=compute.device,
    )
    return CaptionAttention("grid", crop_share, words, dict(zip(ids, weights, strict=True)))


@torch.inference_mode()
def compute_attention(
    captioner: Captioner,
    inputs_of: Callable[[np.ndarray], np.ndarray],
    rows: Sequence[int],
    captions: Sequence[Sequence[int]],
    *,
    batch_size: int,
    device: torch.device,
) -> list[np.ndarray]:
    """Return the attention weights, float32 (T, L), of each caption of T words, by teacher forcing.

    Row t has the weights at word t. `inputs_of` returns the captioner's inputs (N, ...) by row; `captions` are the word
    ids of the images at `rows`, without <bos> and <eos>. An empty caption has an array without rows. Raises
    `InputError` where weights are negative, not finite or do not sum to one.
    """
    assert captioner.looks_at == "grid", "only captioners on grid features have attention"
    assert len(rows) == len(captions), (len(rows), len(captions))
    captioner.to(device).eval()
    attention = [np.zeros((0, 0), np.float32)] * len(captions)
    not_empty = [number for number, caption in enumerate(captions) if caption]
    not_empty.sort(key=lambda number: len(captions[number]))  # little padding in a batch
    for start in range(0, len(not_empty), batch_size):
        numbers = not_empty[start : start + batch_size]
        longest = max(len(captions[number]) for number in numbers)
        tokens = torch.full((len(numbers), longest), PAD, dtype=torch.int64)
        for row, number in enumerate(numbers):
            inputs = [BOS, *captions[number][:-1]]  # the token before each word
            tokens[row, : len(inputs)] = torch.tensor(inputs)
        batch = inputs_of(np.array([rows[number] for number in numbers])).astype(np.float32)
        weights = captioner.attention(torch.from_numpy(batch).to(device), tokens.to(device))
        array = weights.float().cpu().numpy()
        assert array.ndim == 3, array.shape
        assert array.shape[:2] == (len(numbers), longest), array.shape
        for row, number in enumerate(numbers):
            attention[number] = _checked(array[row, : len(captions[number])], rows[number])
    num_positions = max(weights.shape[1] for weights in attention)  # an empty caption has no row, of as many
    return [weights if len(weights) else np.zeros((0, num_positions), np.float32) for weights in attention]


def entropy_bits(weights: np.ndarray) -> np.ndarray:
    """Return the Shannon entropy of each word's attention, float64 (T,): 0 on one position, log2(L) if uniform."""
    shares = weights.astype(np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    bits: np.ndarray = -(shares * logs).sum(axis=1)
    return bits + 0.0  # not -0.0


def grid_side(num_positions: int) -> int:
    """Return the positions per side of a square grid; the grid of a captioner's features is always a square."""
    side = math.isqrt(num_positions)
    assert side * side == num_positions, num_positions
    return side


def upsample(weights: np.ndarray, side: int) -> np.ndarray:
    """Return maps (T, side, side) of the attention (T, L) of T words over a square grid, in rows from the top left.

    Bilinear between the centres of the positions. Each map has the sum of its word's weights; exactly so where `side`
    is a multiple of the grid's side, which it must be.
    """
    grid = grid_side(weights.shape[1])
    assert side % grid == 0, (side, grid)
    interpolation = _linear_interpolation(grid, side)
    squares = weights.astype(np.float64).reshape(-1, grid, grid)
    maps: np.ndarray = np.einsum("yi,tij,xj->tyx", interpolation, squares, interpolation) * (grid / side) ** 2
    return maps


class _StoredImage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image_id: int
    words: list[str]


class _Stored(BaseModel):
    """The content of `attention.json`."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int
    looks_at: str
    images: list[_StoredImage]
    seen_share: float
    note: str


def write_attention(folder: Path, attention: CaptionAttention) -> None:
    """Write `attention.json` and, for grid features, `weights.npy`; all or nothing."""
    image_ids = sorted(attention.words)
    images = [{"image_id": image_id, "words": list(attention.words[image_id])} for image_id in image_ids]
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "looks_at": attention.looks_at, "images": images}
    content |= {"seen_share": attention.crop_share, "note": "" if attention.looks_at == "grid" else NO_ATTENTION}
    with atomic_directory(folder) as new:
        if images:
            rows = [attention.weights[image_id] for image_id in image_ids]
            write_array(new / "weights.npy", np.concatenate(rows).astype(np.float16))
        write_json(new / "attention.json", content)


def read_attention(folder: Path) -> CaptionAttention:
    """Read what `write_attention` wrote; raises `InputError` for missing, damaged or unmatched files."""
    path = folder / "attention.json"
    content = read_json(path)
    advice = "run explain_captioner again"
    if not isinstance(content, Mapping) or content.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: expected schema_version {SCHEMA_VERSION}; {advice}")
    stored: _Stored = validate(content, _Stored, where=str(path))
    words = {image.image_id: tuple(image.words) for image in stored.images}
    weights: dict[int, np.ndarray] = {}
    if words:
        rows = read_array(folder / "weights.npy", mmap=True)
        ends = np.cumsum([len(caption) for caption in words.values()])
        if rows.ndim != 2 or len(rows) != ends[-1]:
            raise InputError(f"{folder / 'weights.npy'}: got {rows.shape}: expected {ends[-1]} rows; {advice}")
        weights = dict(zip(words, np.split(rows, ends[:-1]), strict=True))
    return CaptionAttention(stored.looks_at, stored.seen_share, words, weights)


def _checked(weights: np.ndarray, row: int) -> np.ndarray:
    sums = weights.sum(axis=1)
    if not np.isfinite(weights).all() or (weights < 0).any() or np.abs(sums - 1).max() > 1e-3:
        raise InputError(f"row {row} of the features: attention: expected shares that sum to one, got sums {sums[:5]}")
    return weights


def _linear_interpolation(grid: int, side: int) -> np.ndarray:
    """Return the share (side, grid) of each grid position in each pixel along one edge; rows sum to one."""
    centres = np.clip((np.arange(side) + 0.5) * grid / side - 0.5, 0, grid - 1)
    weights: np.ndarray = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(grid)))
    return weights
