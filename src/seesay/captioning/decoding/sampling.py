"""Captions drawn at random, word by word: from all words, or from the likeliest ones."""

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
    of_images,
)
from seesay.captioning.networks.base import Captioner, Memory
from seesay.seeding import numpy_generator

Draw = Callable[[Tensor, Tensor, int], Tensor]
"""Chooses one token each from log-probabilities (N, B, V): of which images (N,), for which position; gives (N, B)."""


def sample_captions(
    captioner: Captioner, memory: Memory, *, num_samples: int, max_length: int, generator: torch.Generator
) -> Tensor:
    """Token ids (N, num_samples, T <= max_length) drawn by the captioner's own probabilities, <pad> after <eos>.

    `memory` is that of N images, `generator` on its device, `captioner` in evaluation mode. A caption of `max_length`
    words has no <eos>. The draws of an image depend on the batch.
    """

    def draw(log_probabilities: Tensor, images: Tensor, position: int) -> Tensor:
        probabilities = log_probabilities.exp().flatten(0, 1)
        return probabilities.multinomial(1, generator=generator).view(log_probabilities.shape[:2])

    tokens, _ = _drawn(captioner, memory, draw, num_samples=num_samples, max_length=max_length)
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
    """At most `num_samples` different captions of each of `features` (N, ...), the likeliest first.

    Each word is drawn from the nucleus: the fewest likeliest tokens that hold `top_p` of the probability (Holtzman et
    al., 2020), logits divided by `temperature`. Log-probabilities, which rank captions, are the captioner's own. An
    image's draws depend on `seed` and its number alone, `first_image` being that of the first row.
    """
    numbers = range(first_image, first_image + len(features))
    shape = (num_samples, max_length)
    chances = np.stack(
        [numpy_generator(seed, "nucleus", number).random(shape) for number in numbers] or [np.empty(shape)]
    )
    uniform = torch.from_numpy(chances).to(features.device)

    def draw(log_probabilities: Tensor, images: Tensor, position: int) -> Tensor:
        return _from_nucleus(log_probabilities, uniform[images, :, position], top_p=top_p, temperature=temperature)

    with torch.inference_mode():
        memory = captioner.memory(features)
    tokens, totals = _drawn(captioner, memory, draw, num_samples=num_samples, max_length=max_length)
    return [
        best_first(
            Decoded(tuple(token for token in ids if token > EOS), total, score=total)
            for ids, total in zip(*of_image, strict=True)
        )
        for of_image in zip(tokens.tolist(), totals.tolist(), strict=True)
    ]


UNITS = 2.0**40
"""Probabilities are added up as whole numbers of 2 ** -40: exact in any order, and the same on any device."""


def _from_nucleus(log_probabilities: Tensor, uniform: Tensor, *, top_p: float, temperature: float) -> Tensor:
    """The token (N, B) at which the nucleus's cumulative probability passes `uniform` (N, B), float64 in [0, 1)."""
    probabilities = (log_probabilities / temperature).softmax(dim=-1)
    likeliest, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    units = (likeliest.double() * UNITS).long()
    total = units.sum(dim=-1, keepdim=True)
    outside = units.cumsum(dim=-1) - units >= top_p * total.double()  # what is likelier holds enough
    outside[..., 0] = False
    units = units.masked_fill(outside, 0).cumsum(dim=-1)
    wanted = (uniform.unsqueeze(-1) * units[..., -1:]).long()
    place = torch.searchsorted(units, wanted, right=True)
    return tokens.gather(-1, place).squeeze(-1)


@torch.inference_mode()
def _drawn(
    captioner: Captioner, memory: Memory, draw: Draw, *, num_samples: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """Token ids (N, num_samples, max_length), <pad> after <eos>, and log-probabilities (N, num_samples)."""
    assert not captioner.training
    assert min(num_samples, max_length) > 0
    num_images, device = len(memory[0]), memory[0].device
    said = torch.full((num_images, num_samples, max_length), PAD, device=device)
    totals = torch.zeros(num_images, num_samples, device=device)
    if num_images == 0:
        return said, totals
    images = torch.arange(num_images, device=device)  # which image each row of the batch is
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
        said[images, :, position] = tokens
        gained = log_probabilities.gather(2, following.unsqueeze(2)).squeeze(2)
        totals[images] += gained.masked_fill(ended, 0.0)
        going_on = (tokens > EOS).any(dim=1)
        num_going_on = int(going_on.sum())
        if num_going_on == 0:
            break
        if num_going_on < COMPACT_BELOW * len(images):
            rows = going_on.nonzero().squeeze(1)
            images, tokens = images[rows], tokens[rows]
            state, memory = of_images(state, rows), of_images(memory, rows)
    return said, totals
