"""Beam search: the best of several captions kept in parallel, the longer ones not at a disadvantage."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seesay.models.captioner import Captioner, State
from seesay.models.decoded import Decoded, allowed_log_probabilities
from seesay.models.special_tokens import BOS, EOS


@torch.inference_mode()
def beam_search(
    captioner: Captioner, features: Tensor, *, beam_size: int, length_penalty: float, max_length: int
) -> list[Decoded]:
    """The best caption found, of at most `max_length` words, for each image in `features` (N, ...).

    Every step extends an image's beams by every token and ranks them by log-probability. Among the `beam_size` best,
    those that end in <eos> are finished; the `beam_size` best that do not are the next beams. A search ends with
    `beam_size` finished captions, or at `max_length` words, where the beams count as captions too. The best caption is
    that of the highest log-probability divided by (number of tokens, <eos> included) to the power `length_penalty`
    (the first found, among equals). All images go as one batch, which finished ones leave. `captioner` is in evaluation
    mode, on the device of `features`.
    """
    assert not captioner.training
    assert min(beam_size, max_length) > 0
    device = features.device
    finished: list[list[tuple[float, Decoded]]] = [[] for _ in range(len(features))]
    images = list(range(len(features)))  # still searched for; `num_beams` consecutive rows of the batch each
    state = captioner.initial_state(features)
    words = torch.empty(len(features), 1, 0, dtype=torch.long, device=device)  # (images, beams, words so far)
    totals = torch.zeros(len(features), 1, device=device)  # log-probabilities of the beams
    last = torch.full((len(features),), BOS, device=device)
    for length in range(1, max_length + 1):
        if not images:
            break
        logits, state = captioner.step(last, state)
        ranked, beams, tokens = _ranked_extensions(totals, logits, beam_size=beam_size)
        for position, rank in ((tokens == EOS) & ranked.isfinite())[:, :beam_size].nonzero().tolist():
            image = images[position]
            if len(finished[image]) < beam_size:
                ids = tuple(words[position, beams[position, rank]].tolist())
                total = float(ranked[position, rank])
                finished[image].append((total / length**length_penalty, Decoded(ids, total)))

        open_totals, chosen = ranked.masked_fill(tokens == EOS, -torch.inf).topk(min(beam_size, ranked.shape[1]), dim=1)
        beams, tokens = beams.gather(1, chosen), tokens.gather(1, chosen)
        kept = [
            position
            for position, best in enumerate(open_totals[:, 0].tolist())
            if len(finished[images[position]]) < beam_size and best > -math.inf
        ]
        images = [images[position] for position in kept]
        rows = torch.tensor(kept, dtype=torch.long, device=device)
        state = _reordered(state, rows, beams[rows], num_beams=totals.shape[1])
        totals, tokens = open_totals[rows], tokens[rows]
        words = torch.cat(
            [words[rows].gather(1, beams[rows].unsqueeze(2).expand(-1, -1, words.shape[2])), tokens.unsqueeze(2)], dim=2
        )
        last = tokens.flatten()
    for position, image in enumerate(images):
        for ids, total in zip(words[position].tolist(), totals[position].tolist(), strict=True):
            if total > -math.inf:
                finished[image].append((total / max_length**length_penalty, Decoded(tuple(ids), total)))
    return [max(captions, key=lambda scored: scored[0])[1] for captions in finished]


def _ranked_extensions(totals: Tensor, logits: Tensor, *, beam_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, best first, of each image's best extensions, the beams they extend and the tokens they add.

    Each (images, 2 * beam_size) or less: no more than half of them can end in <eos>, so that enough go on.
    """
    num_images, num_beams = totals.shape
    extended = totals.unsqueeze(2) + allowed_log_probabilities(logits).view(num_images, num_beams, -1)
    ranked, index = extended.flatten(1).topk(min(2 * beam_size, extended[0].numel()), dim=1)
    return ranked, index // extended.shape[2], index % extended.shape[2]


def _reordered(state: State, rows: Tensor, beams: Tensor, *, num_beams: int) -> State:
    """The state whose rows are the chosen `beams` (images, new beams) of the images at `rows`."""
    index = (rows.unsqueeze(1) * num_beams + beams).flatten()
    return tuple(part[index] for part in state)
