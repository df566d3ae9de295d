"""What decoding gives for one image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seesay.models.special_tokens import NEVER_EMITTED


@dataclass(frozen=True)
class Decoded:
    """A caption's words as token ids, without <bos> and <eos>, and its log-probability, that of <eos> included.

    A caption that reached the longest allowed length has no <eos> and none in its log-probability.
    """

    token_ids: tuple[int, ...]
    log_probability: float


def allowed_log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities (N, V), float32, among the tokens that may be emitted; -inf for the others."""
    logits = logits.float().index_fill(1, torch.tensor(NEVER_EMITTED, device=logits.device), -torch.inf)
    return logits.log_softmax(dim=1)
