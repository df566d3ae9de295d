"""Counts of n-grams of one to four tokens, for many captions at once."""

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
