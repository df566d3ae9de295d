"""Captions that decoding returns, and operations on states that all decoding methods share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from seesay.captioning.data.vocabulary import NEVER_EMITTED
from seesay.captioning.networks.base import State

COMPACT_BELOW = 0.9
"""Share of unfinished images in a batch below which finished ones are removed. Fewer rows to compute are worth a copy
of the images' memory, but not at each step for one image."""


@dataclass(frozen=True)
class Decoded:
    """A caption's words as token ids, without <bos> and <eos>, and its log-probability, <eos> included.

    A caption cut at the maximum length has no <eos>, and none in its log-probability. `score` ranks it among the
    captions of its image: higher is better.
    """

    token_ids: tuple[int, ...]
    log_probability: float
    score: float


def allowed_log_probabilities(logits: Tensor) -> Tensor:
    """Return log-probabilities (..., V), float32, among the tokens that may be emitted; -inf for the others."""
    logits = logits.float().index_fill(-1, torch.tensor(NEVER_EMITTED, device=logits.device), -torch.inf)
    return logits.log_softmax(dim=-1)


def select_beams(state: State, beams: Tensor) -> State:
    """Return the state (N, B', ...) of the chosen `beams` (N, B') of each image, of a state (N, B, ...)."""
    num_images, num_beams = state[0].shape[:2] if state else beams.shape
    index = (beams + num_beams * torch.arange(num_images, device=beams.device).unsqueeze(1)).flatten()
    return tuple(part.flatten(0, 1).index_select(0, index).unflatten(0, tuple(beams.shape)) for part in state)  # type: ignore[no-untyped-call]


def select_images(parts: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    """Return the given rows of each tensor of a memory or a state."""
    return tuple(part.index_select(0, rows) for part in parts)


def best_first(captions: Iterable[Decoded]) -> list[Decoded]:
    """Return each distinct caption once, the highest score first; equal scores stay in their order."""
    unique: dict[tuple[int, ...], Decoded] = {}
    for caption in captions:
        known = unique.get(caption.token_ids)
        if known is None or caption.score > known.score:
            unique[caption.token_ids] = caption
    return sorted(unique.values(), key=lambda caption: -caption.score)
