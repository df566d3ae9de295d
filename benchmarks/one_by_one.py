"""Textbook decoding of captions: one image at a time, with lists and sorting in Python."""

from __future__ import annotations

import torch
from torch import Tensor

from seesay.captioning.data.vocabulary import BOS, EOS
from seesay.captioning.decoding.hypotheses import allowed_log_probabilities
from seesay.captioning.networks.base import Captioner

Words = tuple[int, ...]


@torch.inference_mode()
def textbook_greedy(captioner: Captioner, features: Tensor, *, max_length: int) -> Words:
    """Return the greedy caption for one image's `features` (1, ...)."""
    memory = captioner.memory(features)
    state, token, words = captioner.initial_state(memory), BOS, []
    for _ in range(max_length):
        logits, state = captioner.step(torch.tensor([[token]], device=features.device), state, memory)
        token = int(allowed_log_probabilities(logits[0, 0]).argmax())
        if token == EOS:
            break
        words.append(token)
    return tuple(words)


@torch.inference_mode()
def textbook_beam(
    captioner: Captioner, features: Tensor, *, beam_size: int, length_penalty: float, max_length: int
) -> Words:
    """Return the best caption of a beam search for one image's `features` (1, ...); its beams form a batch.

    The search is the same as seesay's: of 2 * `beam_size` extensions, those of the best half that end are finished.
    """
    memory = captioner.memory(features)
    state = captioner.initial_state(memory)
    beams: list[tuple[float, Words]] = [(0.0, ())]
    finished: list[tuple[float, Words]] = []
    for length in range(1, max_length + 1):
        last = torch.tensor([[words[-1] if words else BOS for _, words in beams]], device=features.device)
        logits, state = captioner.step(last, state, memory)
        candidates: list[tuple[float, int, int]] = []
        for beam, (total, _) in enumerate(beams):
            values, tokens = allowed_log_probabilities(logits[0, beam]).topk(min(2 * beam_size, logits.shape[2]))
            extensions = zip(values.tolist(), tokens.tolist(), strict=True)
            candidates += [(total + value, beam, token) for value, token in extensions if value > -torch.inf]
        candidates.sort(key=lambda candidate: -candidate[0])
        candidates = candidates[: 2 * beam_size]
        for total, beam, token in candidates[:beam_size]:
            if token == EOS and len(finished) < beam_size:
                finished.append((total / length**length_penalty, beams[beam][1]))
        unfinished = [candidate for candidate in candidates if candidate[2] != EOS][:beam_size]
        if len(finished) == beam_size or not unfinished:
            break
        chosen = torch.tensor([beam for _, beam, _ in unfinished], device=features.device)
        state = tuple(part[:, chosen] for part in state)
        beams = [(total, (*beams[beam][1], token)) for total, beam, token in unfinished]
    else:
        finished += [(total / max_length**length_penalty, words) for total, words in beams]
    return max(finished, key=lambda scored: scored[0])[1]
