"""How much of what could be said is said? Distinct n-grams, vocabulary, novelty and length of a set of captions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from seesay.captioning.metrics.ngrams import NGramCounts, count_ngrams


@dataclass(frozen=True)
class TrainingCaptions:
    """What a captioner has read: its captions as token tuples, and the tokens in them."""

    captions: Collection[tuple[str, ...]]
    tokens: Collection[str]


def training_captions(captions: Sequence[Sequence[str]]) -> TrainingCaptions:
    return TrainingCaptions(
        frozenset(map(tuple, captions)), frozenset(token for caption in captions for token in caption)
    )


def diversity(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """How varied captions (tokens, one an image) are.

    `distinct1`, `distinct2`: distinct n-grams over all n-grams of the set (Li et al., 2016, who divide by tokens), in
    [0, 1], higher is more varied; it falls as a set grows, so compare sets of as many images. `vocabulary_size`:
    distinct tokens.
    """
    counts = count_ngrams(captions)
    return {
        **{f"distinct{order + 1}": _distinct(counts, order) for order in range(2)},
        "vocabulary_size": float(len(counts.tokens)),
    }


def novelty(captions: Sequence[Sequence[str]], training: TrainingCaptions) -> dict[str, float]:
    """What captions have of, and beyond, those learnt from; both in [0, 1].

    `share_vocabulary`: share of the training captions' tokens that are used, higher is more varied. `share_novel`:
    share of captions that are no training caption, token for token; higher is not better by itself.
    """
    used = {token for caption in captions for token in caption}
    return {
        "share_vocabulary": sum(token in training.tokens for token in used) / max(1, len(training.tokens)),
        "share_novel": sum(tuple(caption) not in training.captions for caption in captions) / len(captions),
    }


def lengths(captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> dict[str, float]:
    """`mean_length` and `std_length` in tokens; `length_ratio`: all captions' tokens over the tokens of the references
    closest in length, as BLEU takes them: 1 is as long as people write, below 1 BLEU's brevity penalty sets in."""
    of_captions = np.fromiter(map(len, captions), np.float64, len(captions))
    closest = [
        min((abs(len(reference) - len(caption)), len(reference)) for reference in of_image)[1]
        for caption, of_image in zip(captions, references, strict=True)
    ]
    return {
        "mean_length": float(of_captions.mean()),
        "std_length": float(of_captions.std()),
        "length_ratio": float(of_captions.sum() / max(1, sum(closest))),
    }


def _distinct(counts: NGramCounts, order: int) -> float:
    total = int(counts.count[counts.order == order].sum())
    return len(counts.keys[order]) / total if total else 0.0
