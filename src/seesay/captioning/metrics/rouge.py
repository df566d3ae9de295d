"""How long a subsequence a caption shares with its references: ROUGE-L (Lin, 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BETA = 1.2
"""Weight of recall against precision; coco-caption's."""


def image_rouge_l(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """ROUGE-L of each image's caption, float64 (N,), equal to pycocoevalcap 1.2; the corpus value is the mean.

    In [0, 1], higher is better. The best precision and the best recall may come from different references. A caption
    without tokens has 0, also beside a reference without any, where pycocoevalcap gives 1.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    return np.array([_rouge_l(tokens, of_image) for tokens, of_image in zip(predictions, references, strict=True)])


def _rouge_l(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    if not tokens:
        return 0.0
    positions = _positions(tokens)
    lengths = [(_common(positions, len(tokens), reference), len(reference)) for reference in references]
    precision = max(length for length, _ in lengths) / len(tokens)
    recall = max(length / of_reference if of_reference else 0.0 for length, of_reference in lengths)
    if precision == 0.0 or recall == 0.0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits of an integer (Hyyrö, 2004)."""
    return _common(_positions(first), len(first), second)


def _positions(tokens: Sequence[str]) -> dict[str, int]:
    """Where each token stands, as bits."""
    positions: dict[str, int] = {}
    for position, token in enumerate(tokens):
        positions[token] = positions.get(token, 0) | 1 << position
    return positions


def _common(positions: dict[str, int], length: int, second: Sequence[str]) -> int:
    unmatched = full = (1 << length) - 1
    for token in second:
        if token in positions:  # any other changes nothing
            matches = unmatched & positions[token]
            unmatched = (unmatched + matches | unmatched - matches) & full
    return length - unmatched.bit_count()
