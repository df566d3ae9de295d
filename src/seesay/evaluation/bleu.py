"""How many of the captions' n-grams are in the references: BLEU-1 to BLEU-4 (Papineni et al., 2002)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seesay.evaluation.ngrams import MAX_ORDER, count_ngrams

Bleu = tuple[float, float, float, float]

# coco-caption's guards against division by zero; without them its values are not met to the last digits.
_SMALL, _TINY = 1e-9, 1e-15


def corpus_bleu(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> Bleu:
    """BLEU-1..4 over a whole corpus, equal to pycocoevalcap 1.2.

    `predictions[i]` are the tokens of image i's caption, `references[i]` those of its references (at least one). Counts
    are summed over the corpus before dividing; a reference's length is the one closest to the caption's, the shorter of
    two equally close.
    """
    statistics = _statistics(predictions, references)
    totals = statistics.sum(axis=0)
    scores = _bleu(totals[None])[0]
    return float(scores[0]), float(scores[1]), float(scores[2]), float(scores[3])


def image_bleu(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """BLEU-1..4 of each image alone, float64 (N, 4). Their mean is not the corpus BLEU."""
    return _bleu(_statistics(predictions, references))


def _statistics(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """(N, 10): correct and guessed n-grams of order 1..4, the caption's length, the closest reference's length."""
    assert len(predictions) == len(references), (len(predictions), len(references))
    rows = np.zeros((len(predictions), 2 * MAX_ORDER + 2))
    for row, tokens, of_image in zip(rows, predictions, references, strict=True):
        most: dict[tuple[str, ...], int] = {}
        for reference in of_image:
            for ngram, count in count_ngrams(reference).items():
                most[ngram] = max(most.get(ngram, 0), count)
        for ngram, count in count_ngrams(tokens).items():
            row[len(ngram) - 1] += min(count, most.get(ngram, 0))
        length = len(tokens)
        row[MAX_ORDER : 2 * MAX_ORDER] = [max(0, length - order + 1) for order in range(1, MAX_ORDER + 1)]
        row[-2] = length
        row[-1] = min((abs(len(reference) - length), len(reference)) for reference in of_image)[1]
    return rows


def _bleu(statistics: np.ndarray) -> np.ndarray:
    correct, guessed = statistics[:, :MAX_ORDER], statistics[:, MAX_ORDER : 2 * MAX_ORDER]
    precision = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=1)
    means = precision ** (1.0 / np.arange(1, MAX_ORDER + 1))
    ratio = (statistics[:, -2] + _TINY) / (statistics[:, -1] + _SMALL)
    penalty = np.array([math.exp(1 - 1 / value) if 1 / value < 700 else 0.0 for value in ratio])
    return means * np.where(ratio < 1, penalty, 1.0)[:, None]
