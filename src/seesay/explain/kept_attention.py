"""How a captioner's attention to its test images is kept: the words of each caption, and a row of weights a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seesay.errors import InputError
from seesay.files import atomic_directory, read_array, read_json, write_array, write_json

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
