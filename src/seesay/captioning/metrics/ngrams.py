"""N-grams of captions, and the metrics that count them alone: BLEU and ROUGE-L, equal to pycocoevalcap 1.2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

MAX_ORDER = 4

UNKNOWN = -1
"""The number of a token or n-gram that is not in the numbered set."""


@dataclass(frozen=True)
class TokenArray:
    """Captions as one array of token ids: caption i's `lengths[i]` ids follow those of the captions before it."""

    ids: np.ndarray
    lengths: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """The caption of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def tokens_left(self) -> np.ndarray:
        """The number of tokens from each token to the end of its caption, itself included."""
        return np.repeat(np.cumsum(self.lengths), self.lengths) - np.arange(len(self.ids))


@dataclass(frozen=True)
class NGramCounts:
    """Counts of all n-grams of order 1 to 4 in captions, with one entry for each distinct n-gram of each caption.

    Entry i: caption `row[i]` (ascending) has n-gram `ngram[i]` `count[i]` times; `order[i]` is its number of tokens
    less one. N-grams are numbered order by order; the numbers of unigrams are the token ids in `tokens`. `keys[order]`
    (ascending) identifies the n-grams of an order, in the order of their numbers: each key is the number of the first
    tokens within their order, times the number of tokens, plus the id of the last token. `lengths` are the captions'
    lengths in tokens.
    """

    tokens: dict[str, int]
    keys: tuple[np.ndarray, ...]
    row: np.ndarray
    ngram: np.ndarray
    order: np.ndarray
    count: np.ndarray
    lengths: np.ndarray

    @property
    def num_ngrams(self) -> int:
        return sum(map(len, self.keys))

    @property
    def first_of_order(self) -> list[int]:
        """The number of the first n-gram of each order."""
        return [0, *np.cumsum([len(keys) for keys in self.keys[:-1]]).tolist()]

    def numbers_in(self, other: NGramCounts) -> np.ndarray:
        """Return for each n-gram its number in `other`, `UNKNOWN` if `other` lacks it."""
        token = np.fromiter((other.tokens.get(text, UNKNOWN) for text in self.tokens), np.int64, len(self.tokens))
        by_order = [token]
        for order in range(1, MAX_ORDER):
            prefix, last = np.divmod(self.keys[order], max(1, len(self.tokens)))
            prefix, last = by_order[order - 1][prefix], token[last]
            keys = np.where((prefix < 0) | (last < 0), UNKNOWN, prefix * len(other.tokens) + last)
            by_order.append(positions_of(keys, other.keys[order]))
        return np.concatenate(
            [
                np.where(numbers < 0, UNKNOWN, numbers + start)
                for numbers, start in zip(by_order, other.first_of_order, strict=True)
            ]
        )


def number_tokens(captions: Sequence[Sequence[str]], tokens: dict[str, int]) -> TokenArray:
    """Return the captions' tokens as their numbers in `tokens`, `UNKNOWN` for those it lacks."""
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    flat = map(tokens.get, chain.from_iterable(captions), repeat(UNKNOWN))
    ids = np.fromiter(flat, np.int64, int(lengths.sum()))
    return TokenArray(ids, lengths)


def count_ngrams(captions: Sequence[Sequence[str]]) -> NGramCounts:
    """Count all n-grams of order 1 to 4 of each caption (tokens).

    The number of the first n-1 tokens and that of the last one make an n-gram's key; sorting the keys numbers n-grams.
    """
    tokens = {token: number for number, token in enumerate(dict.fromkeys(chain.from_iterable(captions)))}
    array = number_tokens(captions, tokens)
    row, left = array.row, array.tokens_left
    starts, numbers = np.arange(len(array.ids)), array.ids
    keys = [np.arange(len(tokens))]
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    first = 0
    for order in range(MAX_ORDER):
        if order > 0:
            fits = left[starts] > order
            starts = starts[fits]
            distinct, numbers = np.unique(numbers[fits] * len(tokens) + array.ids[starts + order], return_inverse=True)
            keys.append(distinct)
        entries, counts = np.unique(row[starts] * max(1, len(keys[order])) + numbers, return_counts=True)
        of_row, ngram = np.divmod(entries, max(1, len(keys[order])))
        parts.append((of_row, ngram + first, counts))
        first += len(keys[order])
    of_row, ngram, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order_of = np.repeat(np.arange(MAX_ORDER), [len(part[0]) for part in parts])
    by_row = np.argsort(of_row, kind="stable")
    return NGramCounts(
        tokens, tuple(keys), of_row[by_row], ngram[by_row], order_of[by_row], counts[by_row], array.lengths
    )


def positions_of(wanted: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Return the position of each wanted number in an ascending array without repeats, `UNKNOWN` if it is not there."""
    if not len(ascending):
        return np.full(len(wanted), UNKNOWN)
    positions = np.searchsorted(ascending, wanted)
    positions[positions == len(ascending)] = 0
    return np.where(ascending[positions] == wanted, positions, UNKNOWN)


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
