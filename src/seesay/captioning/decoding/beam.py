"""Beam search with a length penalty, and diverse beam search in groups."""

from __future__ import annotations

import torch
from torch import Tensor

from seesay.captioning.data.vocabulary import BOS, EOS, PAD
from seesay.captioning.decoding.hypotheses import (
    COMPACT_BELOW,
    Decoded,
    allowed_log_probabilities,
    best_first,
    select_beams,
    select_images,
)
from seesay.captioning.networks.base import Captioner


@torch.inference_mode()
def beam_search(
    captioner: Captioner,
    features: Tensor,
    *,
    beam_size: int,
    length_penalty: float,
    max_length: int,
    num_groups: int = 1,
    diversity_penalty: float = 0.0,
) -> list[list[Decoded]]:
    """Return at most `beam_size` captions, each at most `max_length` words, best first, of each of `features`.

    Every step extends an image's beams by every token and ranks the extensions by log-probability. Of the `beam_size`
    best, those that end in <eos> are finished; the `beam_size` best that do not end become the next beams. A search
    ends with `beam_size` finished captions, or at `max_length` words, where the beams count as captions too. A
    caption's `score` is its log-probability divided by (number of tokens, <eos> included) to the power
    `length_penalty`. The highest score is best; among equals, the caption that was finished first.

    With `num_groups` above one, a divisor of `beam_size`, it is a diverse beam search (Vijayakumar et al., 2018): one
    search per group with an equal share of the beams, group after group at each step. A group ranks a token lower by
    `diversity_penalty` for each beam of earlier groups that this step has extended by that token. As in the paper, the
    penalty only ranks extensions; log-probabilities stay those of the captioner. <eos> is no word and costs nothing.

    All of `features` (N, ...) are one batch, which finished images leave. The beams of an image share its memory.
    `captioner` is in evaluation mode, on the device of `features`.
    """
    assert not captioner.training
    assert min(beam_size, max_length, num_groups) > 0
    assert beam_size % num_groups == 0, (beam_size, num_groups)
    if len(features) == 0:
        return []
    size, device = beam_size // num_groups, features.device
    hypotheses = _Hypotheses(len(features), num_groups, size, max_length, device=device)
    memory = captioner.memory(features)
    state = captioner.initial_state(memory)
    images = torch.arange(len(features), device=device)  # the image of each row of the batch
    tokens = torch.full((len(images), 1), BOS, device=device)  # (rows, beams)
    words = torch.full((len(images), 1, max_length), PAD, device=device)  # of the beams so far
    totals = torch.zeros(len(images), 1, device=device)  # log-probabilities of the beams; -inf: no beam
    for length in range(1, max_length + 1):
        logits, state = captioner.step(tokens, state, memory)
        log_probabilities = allowed_log_probabilities(logits)
        extended: list[tuple[Tensor, Tensor, Tensor]] = []  # for each group: log-probabilities, beams, tokens
        for group in range(num_groups):
            first, last = (0, 1) if length == 1 else (group * size, (group + 1) * size)
            penalty = (
                _count_uses(extended, log_probabilities) * diversity_penalty if group and diversity_penalty else None
            )
            ranked, beams, tokens, order = _ranked_extensions(
                totals[:, first:last], log_probabilities[:, first:last], penalty, beam_size=size
            )
            beams = beams + first
            ends = (tokens == EOS)[:, :size] & ranked[:, :size].isfinite()
            complete = hypotheses.add(images, group, ends, words, beams, ranked, length=length)
            chosen = order.masked_fill(tokens == EOS, -torch.inf).topk(min(size, order.shape[1]), dim=1).indices
            open_totals = ranked.masked_fill(tokens == EOS, -torch.inf).gather(1, chosen)
            open_totals = open_totals.masked_fill(complete.unsqueeze(1), -torch.inf)
            extended.append(_pad_beams(open_totals, beams.gather(1, chosen), tokens.gather(1, chosen), size=size))
        totals, beams, tokens = (torch.cat(parts, dim=1) for parts in zip(*extended, strict=True))
        words = words.gather(1, beams.unsqueeze(2).expand(-1, -1, max_length))
        words[:, :, length - 1] = tokens
        unfinished = totals.isfinite().any(dim=1)
        num_unfinished = int(unfinished.sum())
        if num_unfinished == 0:
            break
        state = select_beams(state, beams)
        if num_unfinished < COMPACT_BELOW * len(images):
            rows = unfinished.nonzero().squeeze(1)
            images, tokens, words, totals = select_images((images, tokens, words, totals), rows)
            state, memory = select_images(state, rows), select_images(memory, rows)
    hypotheses.add_open(images, words, totals)
    return hypotheses.captions(length_penalty, limit=beam_size)


class _Hypotheses:
    """The captions of N images by group: up to `size` finished ones in the order of finishing, then open ones."""

    def __init__(self, num_images: int, num_groups: int, size: int, max_length: int, *, device: torch.device) -> None:
        self.size, self.max_length = size, max_length
        shape = (num_images, num_groups, 2 * size)
        self.words = torch.full((*shape, max_length), PAD, device=device)
        self.totals = torch.full(shape, -torch.inf, device=device)
        self.lengths = torch.ones(shape, dtype=torch.long, device=device)  # in tokens, <eos> included
        self.num_finished = torch.zeros(shape[:2], dtype=torch.long, device=device)

    def add(
        self, images: Tensor, group: int, ends: Tensor, words: Tensor, beams: Tensor, totals: Tensor, *, length: int
    ) -> Tensor:
        """Add the extensions that end, while there is room; return the rows of the batch whose group is complete."""
        before = self.num_finished[images, group]
        slots = before.unsqueeze(1) + ends.cumsum(dim=1) - 1
        ends = ends & (slots < self.size)
        rows, ranks = ends.nonzero(as_tuple=True)
        target = (images[rows], torch.full_like(rows, group), slots[rows, ranks])
        self.words[target] = words[rows, beams[rows, ranks]]
        self.totals[target] = totals[rows, ranks]
        self.lengths[target] = length
        self.num_finished[images, group] = before + ends.sum(dim=1)
        return self.num_finished[images, group] == self.size

    def add_open(self, images: Tensor, words: Tensor, totals: Tensor) -> None:
        """Add the beams that reached the maximum length."""
        groups = self.num_finished.shape[1]
        self.words[images, :, self.size :] = words.unflatten(1, (groups, -1))  # type: ignore[no-untyped-call]
        self.totals[images, :, self.size :] = totals.unflatten(1, (groups, -1))  # type: ignore[no-untyped-call]
        self.lengths[:, :, self.size :] = self.max_length

    def captions(self, length_penalty: float, *, limit: int) -> list[list[Decoded]]:
        """Return at most `limit` distinct captions of each image, the highest score first."""
        totals, lengths = self.totals.flatten(1).double(), self.lengths.flatten(1)
        scores = totals / lengths.double() ** length_penalty
        images = zip(self.words.flatten(1, 2).tolist(), totals.tolist(), scores.tolist(), strict=True)
        return [
            best_first(
                Decoded(tuple(token for token in ids if token != PAD), total, score)
                for ids, total, score in zip(*image, strict=True)
                if total > -torch.inf
            )[:limit]
            for image in images
        ]


def _ranked_extensions(
    totals: Tensor, log_probabilities: Tensor, penalty: Tensor | None, *, beam_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best extensions of each image's beams, best first: log-probabilities, beams, tokens, ranking values.

    Each is (images, 2 * beam_size) or narrower. At most half of the extensions can end in <eos>, so that enough
    continue. The `penalty` of a token (images, V) counts in the ranking only.
    """
    extended = totals.unsqueeze(2) + log_probabilities
    ranking = extended if penalty is None else extended - penalty.unsqueeze(1)
    order, index = ranking.flatten(1).topk(min(2 * beam_size, extended[0].numel()), dim=1)
    ranked = order if penalty is None else extended.flatten(1).gather(1, index)
    vocabulary_size = extended.shape[2]
    return ranked, index // vocabulary_size, index % vocabulary_size, order


def _count_uses(extended: list[tuple[Tensor, Tensor, Tensor]], log_probabilities: Tensor) -> Tensor:
    """Return how often this step has extended a beam of the groups so far by each token, (images, V)."""
    counts = torch.zeros_like(log_probabilities[:, 0])
    for totals, _, tokens in extended:
        counts.scatter_add_(1, tokens, totals.isfinite().to(counts.dtype))
    return counts


def _pad_beams(totals: Tensor, beams: Tensor, tokens: Tensor, *, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pad to `size` beams with log-probability -inf: the first step can have fewer extensions than beams."""
    missing = size - totals.shape[1]
    if missing == 0:
        return totals, beams, tokens
    pad = torch.nn.functional.pad
    padding = beams[:, :1].expand(-1, missing)
    return (
        pad(totals, (0, missing), value=-torch.inf),
        torch.cat([beams, padding], 1),
        pad(tokens, (0, missing), value=PAD),
    )
