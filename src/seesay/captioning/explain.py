"""What does a captioner look at while it says each word? Its attention, taught with the caption itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seesay.arrays import read_array, write_array
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import BOS, PAD, UNK, Vocabulary
from seesay.captioning.features.store import Features
from seesay.captioning.networks.base import Captioner
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, read_json, write_json


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


def explain_captions(
    captioner: Captioner,
    features: Features,
    captions: CaptionRecords,
    vocabulary: Vocabulary,
    predictions: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    compute: Compute,
) -> KeptAttention:
    """The captioner's attention as it says its own test captions, `{"image_id", "caption"}` in the records' order.

    A captioner that looks at pooled features has none. Raises `InputError` for a word that the vocabulary lacks: then
    the captions are not this captioner's.
    """
    transform = features.index.transform
    seen_share = transform["image_size"] / transform["resize_size"]
    if captioner.looks_at != "grid":
        return KeptAttention(captioner.looks_at, seen_share, {}, {})
    words = {int(one["image_id"]): tuple(str(one["caption"]).split()) for one in predictions}
    ids = {image_id: vocabulary.encode(said) for image_id, said in words.items()}
    for image_id, tokens in ids.items():
        if UNK in tokens:
            unknown = words[image_id][tokens.index(UNK)]
            raise InputError(
                f"captions of {captions.name}: image {image_id}: {unknown!r} is not in the captioner's vocabulary: "
                "run caption_images again"
            )
    weights = attend(
        captioner,
        features.seen("grid"),
        captions.rows("test"),
        list(ids.values()),
        batch_size=batch_size,
        compute=compute,
    )
    return KeptAttention("grid", seen_share, words, dict(zip(ids, weights, strict=True)))


SCHEMA_VERSION = 1
NO_PLACES = "This captioner looks at pooled features: one vector an image, in which no place can be told from another."


@dataclass(frozen=True)
class KeptAttention:
    """`words` and `weights` (T, L), float16, by image id; both empty where `looks_at` is "pooled".

    `seen_share` is how much of the shorter side the encoder saw: it crops a centred square.
    """

    looks_at: str
    seen_share: float
    words: Mapping[int, tuple[str, ...]]
    weights: Mapping[int, np.ndarray]


def write_attention(folder: Path, attention: KeptAttention) -> None:
    """Writes `attention.json` and, where there are places to look at, `weights.npy`; all or nothing."""
    image_ids = sorted(attention.words)
    images = [{"image_id": image_id, "words": list(attention.words[image_id])} for image_id in image_ids]
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "looks_at": attention.looks_at, "images": images}
    content |= {"seen_share": attention.seen_share, "note": "" if attention.looks_at == "grid" else NO_PLACES}
    with atomic_directory(folder) as new:
        if images:
            rows = [attention.weights[image_id] for image_id in image_ids]
            write_array(new / "weights.npy", np.concatenate(rows).astype(np.float16))
        write_json(new / "attention.json", content)


def read_attention(folder: Path) -> KeptAttention:
    """What `write_attention` wrote; raises `InputError` where a file is missing, damaged or does not fit the other."""
    path = folder / "attention.json"
    content = read_json(path)
    advice = "run explain_captioner again"
    if not isinstance(content, Mapping) or content.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: expected schema_version {SCHEMA_VERSION}; {advice}")
    words = {int(image["image_id"]): tuple(map(str, image["words"])) for image in content["images"]}
    weights: dict[int, np.ndarray] = {}
    if words:
        rows = read_array(folder / "weights.npy", mmap=True)
        ends = np.cumsum([len(said) for said in words.values()])
        if rows.ndim != 2 or len(rows) != ends[-1]:
            raise InputError(f"{folder / 'weights.npy'}: got {rows.shape}: expected {ends[-1]} rows; {advice}")
        weights = dict(zip(words, np.split(rows, ends[:-1]), strict=True))
    return KeptAttention(str(content["looks_at"]), float(content["seen_share"]), words, weights)
