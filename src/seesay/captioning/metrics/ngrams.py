"""How often each run of one to four tokens is in each of many captions, counted for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

MAX_ORDER = 4
UNKNOWN = -1


@dataclass(frozen=True)
class TokenArray:
    """Captions as one array of token ids: caption i's `lengths[i]` ids follow those of the captions before it."""

    ids: np.ndarray
    lengths: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """Which caption each token is of."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def tokens_left(self) -> np.ndarray:
        """How many tokens its caption has from each token on, itself included."""
        return np.repeat(np.cumsum(self.lengths), self.lengths) - np.arange(len(self.ids))


@dataclass(frozen=True)
class NGramCounts:
    """Counts of all n-grams of order 1 to 4 in captions, one entry for each n-gram of each caption.

    Caption `row[i]` (ascending) has n-gram `ngram[i]`, `count[i]` times; `order[i]` is its number of tokens less one.
    N-grams are numbered order by order; the unigrams' numbers are the token ids in `tokens`.
    `keys[order]` (ascending) says what the n-grams of an order are made of, see `key`.
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
        """For each n-gram its number in `other`, `UNKNOWN` where `other` has none such."""
        token = np.fromiter((other.tokens.get(text, UNKNOWN) for text in self.tokens), np.int64, len(self.tokens))
        found = [token]
        for order in range(1, MAX_ORDER):
            prefix, last = np.divmod(self.keys[order], max(1, len(self.tokens)))
            prefix, last = found[order - 1][prefix], token[last]
            wanted = np.where((prefix < 0) | (last < 0), UNKNOWN, prefix * len(other.tokens) + last)
            found.append(positions_of(wanted, other.keys[order]))
        return np.concatenate(
            [
                np.where(numbers < 0, UNKNOWN, numbers + start)
                for numbers, start in zip(found, other.first_of_order, strict=True)
            ]
        )


def number_tokens(captions: Sequence[Sequence[str]], tokens: dict[str, int]) -> TokenArray:
    """The captions' tokens by their numbers in `tokens`, `UNKNOWN` for those it lacks."""
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    flat = map(tokens.get, chain.from_iterable(captions), repeat(UNKNOWN))
    ids = np.fromiter(flat, np.int64, int(lengths.sum()))
    return TokenArray(ids, lengths)


def count_ngrams(captions: Sequence[Sequence[str]]) -> NGramCounts:
    """Counts of all n-grams of order 1 to 4 of each caption (tokens).

    An n-gram is its first n-1 tokens and its last one: two numbers make its key, and sorting the keys numbers them.
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
            made_of = numbers[fits] * len(tokens) + array.ids[starts + order]
            distinct, numbers = np.unique(made_of, return_inverse=True)
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
    """Where each wanted number stands in an ascending array without repeats, `UNKNOWN` where it is not there."""
    if not len(ascending):
        return np.full(len(wanted), UNKNOWN)
    places = np.searchsorted(ascending, wanted)
    places[places == len(ascending)] = 0
    return np.where(ascending[places] == wanted, places, UNKNOWN)
