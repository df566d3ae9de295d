"""Greedy decoding: at each position the likeliest token."""

from __future__ import annotations

import torch
from torch import Tensor

from seesay.models.captioner import Captioner
from seesay.models.decoded import Decoded, allowed_log_probabilities
from seesay.models.special_tokens import BOS, EOS


@torch.inference_mode()
def greedy_search(captioner: Captioner, features: Tensor, *, max_length: int) -> list[Decoded]:
    """The captions, of at most `max_length` words, of all images in `features` (N, ...), decoded as one batch.

    `captioner` is in evaluation mode, on the device of `features`. Finished captions leave the batch.
    """
    assert not captioner.training
    assert max_length > 0
    state = captioner.initial_state(features)
    tokens = torch.full((len(features),), BOS, device=features.device)
    images = torch.arange(len(features), device=features.device)  # which image each row of the batch is
    words: list[list[int]] = [[] for _ in range(len(features))]
    totals = torch.zeros(len(features), device=features.device)
    for _ in range(max_length):
        if len(images) == 0:
            break
        logits, state = captioner.step(tokens, state)
        best, tokens = allowed_log_probabilities(logits).max(dim=1)
        totals[images] += best
        going_on = (tokens != EOS).nonzero().squeeze(1)
        images, tokens = images[going_on], tokens[going_on]
        state = tuple(part[going_on] for part in state)
        for image, token in zip(images.tolist(), tokens.tolist(), strict=True):
            words[image].append(token)
    return [Decoded(tuple(ids), total) for ids, total in zip(words, totals.tolist(), strict=True)]
