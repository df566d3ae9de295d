"""How long a subsequence a caption shares with its references: ROUGE-L (Lin, 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BETA = 1.2
"""Weight of recall against precision; coco-caption's."""


def image_rouge_l(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """ROUGE-L of each image's caption, float64 (N,), equal to pycocoevalcap 1.2; the corpus value is the mean.

    The best precision and the best recall may come from different references. A caption without tokens has 0.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    return np.array([_rouge_l(tokens, of_image) for tokens, of_image in zip(predictions, references, strict=True)])


def _rouge_l(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    if not tokens:
        return 0.0
    lengths = [(longest_common_subsequence(reference, tokens), len(reference)) for reference in references]
    precision = max(length for length, _ in lengths) / len(tokens)
    recall = max(length / of_reference if of_reference else 0.0 for length, of_reference in lengths)
    if precision == 0.0 or recall == 0.0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits of an integer (Hyyrö, 2004)."""
    positions: dict[str, int] = {}
    for position, token in enumerate(first):
        positions[token] = positions.get(token, 0) | 1 << position
    full = (1 << len(first)) - 1
    unmatched = full
    for token in second:
        matches = unmatched & positions.get(token, 0)
        unmatched = (unmatched + matches | unmatched - matches) & full
    return len(first) - unmatched.bit_count()
