"""Greedy decoding: the most likely token at each position."""

from __future__ import annotations

import torch
from torch import Tensor

from seesay.captioning.data.vocabulary import BOS, EOS, PAD
from seesay.captioning.decoding.hypotheses import COMPACT_BELOW, Decoded, allowed_log_probabilities, select_images
from seesay.captioning.networks.base import Captioner, Memory


def greedy_search(captioner: Captioner, features: Tensor, *, max_length: int) -> list[Decoded]:
    """Return the caption, at most `max_length` words, of each image in `features` (N, ...), decoded as one batch.

    `captioner` is in evaluation mode, on the device of `features`. Finished captions leave the batch.
    """
    with torch.inference_mode():
        tokens, totals = greedy_tokens(captioner, captioner.memory(features), max_length=max_length)
    lengths = (tokens > EOS).sum(dim=1).tolist()
    return [
        Decoded(tuple(ids[:length]), total, score=total)
        for ids, length, total in zip(tokens.tolist(), lengths, totals.tolist(), strict=True)
    ]


@torch.inference_mode()
def greedy_tokens(captioner: Captioner, memory: Memory, *, max_length: int) -> tuple[Tensor, Tensor]:
    """Return greedy captions as token ids (N, max_length), <pad> after <eos>, and their log-probabilities (N,).

    `memory` is that of N images; `captioner` is in evaluation mode. A caption of `max_length` words has no <eos>.
    """
    assert not captioner.training
    assert max_length > 0
    num_images, device = len(memory[0]), memory[0].device
    state = captioner.initial_state(memory)
    captions = torch.full((num_images, max_length), PAD, device=device)
    totals = torch.zeros(num_images, device=device)
    images = torch.arange(num_images, device=device)  # the image of each row of the batch
    tokens = torch.full((num_images,), BOS, device=device)
    for position in range(max_length):
        if len(images) == 0:
            break
        logits, state = captioner.step(tokens.unsqueeze(1), state, memory)
        best, following = allowed_log_probabilities(logits[:, 0]).max(dim=1)
        ended = (tokens == EOS) | (tokens == PAD)
        tokens = following.masked_fill(ended, PAD)
        captions[images, position] = tokens
        totals[images] += best.masked_fill(ended, 0.0)
        unfinished = tokens > EOS
        num_unfinished = int(unfinished.sum())
        if num_unfinished == 0:
            break
        if num_unfinished < COMPACT_BELOW * len(images):
            rows = unfinished.nonzero().squeeze(1)
            images, tokens = images[rows], tokens[rows]
            state, memory = select_images(state, rows), select_images(memory, rows)
    return captions, totals
