"""BLEU-1 to BLEU-4 (Papineni et al., 2002), equal to pycocoevalcap 1.2, from sums that add up over images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from seesay.captioning.metrics.ngrams import MAX_ORDER, TokenArray, number_tokens, positions_of

NUM_STATISTICS = 2 * MAX_ORDER + 2

# coco-caption's guards against division by zero; equality with its values to the last digits needs them.
_SMALL, _TINY = 1e-9, 1e-15


def bleu_statistics(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """Return the statistics of each image's caption that BLEU is computed from, float64 (N, 10).

    `predictions[i]` are the tokens of image i's caption, `references[i]` those of its references (at least one). Sum
    the statistics over any images, and `bleu_scores` gives their corpus BLEU.

    Columns: n-grams found in a reference, for orders 1 to 4, each counted at most as often as in one reference; all
    n-grams, for orders 1 to 4; the caption's length; the length of the closest reference, the shorter of two equally
    close ones.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    if not predictions:
        return np.zeros((0, NUM_STATISTICS))
    tokens = {token: number for number, token in enumerate(dict.fromkeys(chain.from_iterable(predictions)))}
    captions = number_tokens(predictions, tokens)
    rows = [reference for of_image in references for reference in of_image]
    others = number_tokens(rows, tokens)
    image_of_row = np.repeat(np.arange(len(references)), list(map(len, references)))
    statistics = np.zeros((len(predictions), NUM_STATISTICS))
    _count_matches(captions, others, image_of_row, len(tokens), statistics)
    lengths = captions.lengths
    for order in range(MAX_ORDER):
        statistics[:, MAX_ORDER + order] = np.maximum(0, lengths - order)
    statistics[:, -2] = lengths
    statistics[:, -1] = _closest_lengths(lengths, others.lengths, image_of_row)
    return statistics


def bleu_scores(statistics: np.ndarray) -> np.ndarray:
    """Return BLEU-1..4, float64 (M, 4), of M sums of `bleu_statistics`, (M, 10). In [0, 1], higher is better."""
    matches, totals = statistics[:, :MAX_ORDER], statistics[:, MAX_ORDER : 2 * MAX_ORDER]
    precision = np.cumprod((matches + _TINY) / (totals + _SMALL), axis=1)
    means = precision ** (1.0 / np.arange(1, MAX_ORDER + 1))
    ratio = (statistics[:, -2] + _TINY) / (statistics[:, -1] + _SMALL)
    penalty = np.exp(1 - 1 / np.maximum(ratio, 1 / 700))  # below 1/700 the penalty underflows to 0
    scores: np.ndarray = means * np.where(ratio < 1, np.where(ratio > 1 / 700, penalty, 0.0), 1.0)[:, None]
    return scores


def _count_matches(
    captions: TokenArray, others: TokenArray, image_of_row: np.ndarray, num_tokens: int, statistics: np.ndarray
) -> None:
    """Fill the first four columns of `statistics`.

    N-grams are numbered image by image, and only those in the image's caption. A reference's n-gram whose first tokens
    are not in the caption cannot be in it either, so that few are left at higher orders.
    """
    starts, image, left = np.arange(len(captions.ids)), captions.row, captions.tokens_left
    numbers = image * num_tokens + captions.ids
    other_left, other_row = others.tokens_left, others.row
    other_starts = np.flatnonzero(others.ids >= 0)
    other_numbers = image_of_row[other_row[other_starts]] * num_tokens + others.ids[other_starts]
    for order in range(MAX_ORDER):
        if order > 0:
            fits = left[starts] > order
            starts = starts[fits]
            numbers = numbers[fits] * num_tokens + captions.ids[starts + order]
            fits = other_left[other_starts] > order
            other_starts, other_numbers = other_starts[fits], other_numbers[fits]
            fits = others.ids[other_starts + order] >= 0
            other_starts, other_numbers = other_starts[fits], other_numbers[fits]
            other_numbers = other_numbers * num_tokens + others.ids[other_starts + order]
        distinct, first, numbers, counts = np.unique(
            numbers, return_index=True, return_inverse=True, return_counts=True
        )
        other_numbers = positions_of(other_numbers, distinct)
        known = other_numbers >= 0
        other_starts, other_numbers = other_starts[known], other_numbers[known]
        pairs, times = np.unique(other_row[other_starts] * max(1, len(distinct)) + other_numbers, return_counts=True)
        max_times = np.zeros(len(distinct), dtype=np.int64)  # in one reference
        np.maximum.at(max_times, pairs % max(1, len(distinct)), times)
        of_image = image[starts[first]]
        statistics[:, order] = np.bincount(of_image, weights=np.minimum(counts, max_times), minlength=len(statistics))


def _closest_lengths(lengths: np.ndarray, others: np.ndarray, image_of_row: np.ndarray) -> np.ndarray:
    """Return for each image the reference length closest to the caption's, the shorter of two equally close ones."""
    distance = np.abs(others - lengths[image_of_row])
    order = np.lexsort((others, distance, image_of_row))
    first = np.searchsorted(image_of_row, np.arange(len(lengths)))
    return others[order][first]
