"""Diversity of a set of captions: distinct n-grams, vocabulary, novelty and length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from seesay.captioning.metrics.ngrams import NGramCounts, count_ngrams


@dataclass(frozen=True)
class TrainingCaptions:
    """The captions that a captioner was trained on, as token tuples, and the tokens in them."""

    captions: Collection[tuple[str, ...]]
    tokens: Collection[str]


def training_captions(captions: Sequence[Sequence[str]]) -> TrainingCaptions:
    return TrainingCaptions(
        frozenset(map(tuple, captions)), frozenset(token for caption in captions for token in caption)
    )


def diversity(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return metrics of the diversity of captions (tokens, one per image).

    `distinct1`, `distinct2`: distinct n-grams over all n-grams of the set (Li et al., 2016, who divide by tokens). In
    [0, 1], higher is more diverse. It falls as a set grows, so compare sets of equal size only. `vocabulary_size`: the
    number of distinct tokens.
    """
    counts = count_ngrams(captions)
    return {
        **{f"distinct{order + 1}": _distinct(counts, order) for order in range(2)},
        "vocabulary_size": float(len(counts.tokens)),
    }


def novelty(captions: Sequence[Sequence[str]], training: TrainingCaptions) -> dict[str, float]:
    """Return how far captions use, and go beyond, the training captions; both values are in [0, 1].

    `share_vocabulary`: the share of the training captions' tokens that are used; higher is more diverse.
    `share_novel`: the share of captions that equal no training caption, token for token; higher is not better by
    itself.
    """
    used = {token for caption in captions for token in caption}
    return {
        "share_vocabulary": sum(token in training.tokens for token in used) / max(1, len(training.tokens)),
        "share_novel": sum(tuple(caption) not in training.captions for caption in captions) / len(captions),
    }


def lengths(captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> dict[str, float]:
    """Return `mean_length` and `std_length` in tokens, and `length_ratio`.

    `length_ratio` is all captions' tokens over the tokens of the references closest in length, as in BLEU: at 1
    captions are as long as human ones, and below 1 BLEU's brevity penalty sets in.
    """
    caption_lengths = np.fromiter(map(len, captions), np.float64, len(captions))
    closest = [
        min((abs(len(reference) - len(caption)), len(reference)) for reference in of_image)[1]
        for caption, of_image in zip(captions, references, strict=True)
    ]
    return {
        "mean_length": float(caption_lengths.mean()),
        "std_length": float(caption_lengths.std()),
        "length_ratio": float(caption_lengths.sum() / max(1, sum(closest))),
    }


def _distinct(counts: NGramCounts, order: int) -> float:
    total = int(counts.count[counts.order == order].sum())
    return len(counts.keys[order]) / total if total else 0.0
