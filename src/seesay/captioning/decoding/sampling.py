"""Decoding word by word: the likeliest word, or random words from all or from a nucleus of the likeliest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from seesay.captioning.data.vocabulary import BOS, EOS, PAD
from seesay.captioning.decoding.hypotheses import (
    COMPACT_BELOW,
    Decoded,
    allowed_log_probabilities,
    best_first,
    select_images,
)
from seesay.captioning.networks.base import Captioner, Memory
from seesay.seeding import numpy_generator


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


UNITS = 2.0**40
"""Probabilities are summed as integer multiples of 2 ** -40: exact in any order, and the same on any device."""

Draw = Callable[[Tensor, Tensor, int], Tensor]
"""(log-probabilities (N, B, V), images (N,), position) -> one token each (N, B)."""


def sample_captions(
    captioner: Captioner, memory: Memory, *, num_samples: int, max_length: int, generator: torch.Generator
) -> Tensor:
    """Return token ids (N, num_samples, T <= max_length) sampled from the captioner, <pad> after <eos>.

    `memory` is that of N images, `generator` is on its device, and `captioner` is in evaluation mode. A caption of
    `max_length` words has no <eos>. The samples of an image depend on the batch.
    """

    def draw(log_probabilities: Tensor, images: Tensor, position: int) -> Tensor:
        probabilities = log_probabilities.exp().flatten(0, 1)
        return probabilities.multinomial(1, generator=generator).view(log_probabilities.shape[:2])

    tokens, _ = _sample(captioner, memory, draw, num_samples=num_samples, max_length=max_length)
    longest = int((tokens != PAD).sum(dim=2).max()) if tokens.numel() else 0
    return tokens[:, :, :longest]


def nucleus_sampling(
    captioner: Captioner,
    features: Tensor,
    *,
    top_p: float,
    temperature: float,
    num_samples: int,
    max_length: int,
    seed: int,
    first_image: int,
) -> list[list[Decoded]]:
    """Return at most `num_samples` distinct captions of each of `features` (N, ...), the most likely first.

    Each word is sampled from the nucleus: the smallest set of most likely tokens with total probability `top_p`
    (Holtzman et al., 2020), logits divided by `temperature`. The log-probabilities that rank captions are the
    captioner's own. An image's samples depend only on `seed` and its number; `first_image` is that of the first row.
    """
    numbers = range(first_image, first_image + len(features))
    shape = (num_samples, max_length)
    chances = np.stack(
        [numpy_generator(seed, "nucleus", number).random(shape) for number in numbers] or [np.empty(shape)]
    )
    uniform = torch.from_numpy(chances).to(features.device)

    def draw(log_probabilities: Tensor, images: Tensor, position: int) -> Tensor:
        return _sample_nucleus(log_probabilities, uniform[images, :, position], top_p=top_p, temperature=temperature)

    with torch.inference_mode():
        memory = captioner.memory(features)
    tokens, totals = _sample(captioner, memory, draw, num_samples=num_samples, max_length=max_length)
    return [
        best_first(
            Decoded(tuple(token for token in ids if token > EOS), total, score=total)
            for ids, total in zip(*image_samples, strict=True)
        )
        for image_samples in zip(tokens.tolist(), totals.tolist(), strict=True)
    ]


@torch.inference_mode()
def _sample(
    captioner: Captioner, memory: Memory, draw: Draw, *, num_samples: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """Return token ids (N, num_samples, max_length), <pad> after <eos>, and log-probabilities (N, num_samples)."""
    assert not captioner.training
    assert min(num_samples, max_length) > 0
    num_images, device = len(memory[0]), memory[0].device
    captions = torch.full((num_images, num_samples, max_length), PAD, device=device)
    totals = torch.zeros(num_images, num_samples, device=device)
    if num_images == 0:
        return captions, totals
    images = torch.arange(num_images, device=device)  # the image of each row of the batch
    state = captioner.initial_state(memory)
    tokens = torch.full((num_images, 1), BOS, device=device)
    for position in range(max_length):
        logits, state = captioner.step(tokens, state, memory)
        if position == 0:  # all captions of an image begin alike
            logits = logits.expand(-1, num_samples, -1)
            state = tuple(part.expand(-1, num_samples, *part.shape[2:]) for part in state)
        log_probabilities = allowed_log_probabilities(logits)
        following = draw(log_probabilities, images, position)
        ended = (tokens == EOS) | (tokens == PAD)
        tokens = following.masked_fill(ended, PAD)
        captions[images, :, position] = tokens
        gained = log_probabilities.gather(2, following.unsqueeze(2)).squeeze(2)
        totals[images] += gained.masked_fill(ended, 0.0)
        unfinished = (tokens > EOS).any(dim=1)
        num_unfinished = int(unfinished.sum())
        if num_unfinished == 0:
            break
        if num_unfinished < COMPACT_BELOW * len(images):
            rows = unfinished.nonzero().squeeze(1)
            images, tokens = images[rows], tokens[rows]
            state, memory = select_images(state, rows), select_images(memory, rows)
    return captions, totals


def _sample_nucleus(log_probabilities: Tensor, uniform: Tensor, *, top_p: float, temperature: float) -> Tensor:
    """Return the token (N, B) at which the nucleus's cumulative probability passes `uniform` (N, B), float64."""
    probabilities = (log_probabilities / temperature).softmax(dim=-1)
    likeliest, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    units = (likeliest.double() * UNITS).long()
    total = units.sum(dim=-1, keepdim=True)
    outside = units.cumsum(dim=-1) - units >= top_p * total.double()  # more likely tokens already reach top_p
    outside[..., 0] = False
    units = units.masked_fill(outside, 0).cumsum(dim=-1)
    target = (uniform.unsqueeze(-1) * units[..., -1:]).long()
    index = torch.searchsorted(units, target, right=True)
    return tokens.gather(-1, index).squeeze(-1)
