"""ROUGE-L (Lin, 2004), equal to pycocoevalcap 1.2: the longest common subsequence of caption and reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BETA = 1.2
"""Weight of recall against precision; coco-caption's."""


def image_rouge_l(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """Return ROUGE-L of each image's caption, float64 (N,); the corpus value is the mean.

    In [0, 1], higher is better. The best precision and the best recall may come from different references. A caption
    without tokens has 0, also if a reference has no tokens either, where pycocoevalcap gives 1.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    return np.array([_rouge_l(tokens, of_image) for tokens, of_image in zip(predictions, references, strict=True)])


def _rouge_l(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    if not tokens:
        return 0.0
    positions = _positions(tokens)
    lengths = [(_common_length(positions, len(tokens), reference), len(reference)) for reference in references]
    precision = max(common for common, _ in lengths) / len(tokens)
    recall = max(common / of_reference if of_reference else 0.0 for common, of_reference in lengths)
    if precision == 0.0 or recall == 0.0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _positions(tokens: Sequence[str]) -> dict[str, int]:
    """Return the positions of each token as the bits of an integer."""
    positions: dict[str, int] = {}
    for position, token in enumerate(tokens):
        positions[token] = positions.get(token, 0) | 1 << position
    return positions


def _common_length(positions: dict[str, int], length: int, second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, with bit operations (Hyyrö, 2004).

    `positions` and `length` describe the first sequence.
    """
    unmatched = full = (1 << length) - 1
    for token in second:
        if token in positions:  # other tokens change nothing
            matches = unmatched & positions[token]
            unmatched = (unmatched + matches | unmatched - matches) & full
    return length - unmatched.bit_count()
