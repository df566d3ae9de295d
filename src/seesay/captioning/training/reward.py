"""CIDEr-D of token ids in training: as validation score, and as reward of many captions of a few images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seesay.captioning.data.vocabulary import EOS, UNK, Vocabulary
from seesay.captioning.metrics.cider import SCALE, SIGMA, CiderReferences
from seesay.captioning.metrics.ngrams import MAX_ORDER


class ValidationScore:
    """Mean CIDEr-D of captions of the val images, as token ids without <eos>: the metric `val/cider_d`."""

    def __init__(self, references: Sequence[Sequence[list[str]]], vocabulary: Vocabulary) -> None:
        self._references, self._vocabulary = CiderReferences(references), vocabulary

    def __call__(self, captions: Sequence[Sequence[int]]) -> float:
        return float(self._references.score([self._vocabulary.decode(ids) for ids in captions]).mean())


@dataclass(frozen=True)
class _NgramCounts:
    """Arrays with one entry per distinct n-gram of a row: the row, the n-gram's number, its order - 1, its count."""

    row: np.ndarray
    ngram: np.ndarray
    order: np.ndarray
    count: np.ndarray


class SampleReward:
    """CIDEr-D of sampled captions against the training references of their images, with <eos> as a word.

    Each reference ends with <eos>, and so does a caption unless it was cut. Without it, n-grams at the end of a caption
    are not scored, and captioners learn to stop at "... in a" or not at all. A cut caption lacks the <eos> of its
    references and gains nothing by it (Hu et al., 2023, "A Request for Clarity over the End of Sequence Token in the
    Self-Critical Sequence Training"). Values therefore differ from the metric. Document frequencies are those of the
    train split.

    An n-gram is a number: that of its first n - 1 words, then its last word, looked up in one sorted array per order.
    """

    def __init__(self, references: Sequence[Sequence[list[str]]], vocabulary: Vocabulary) -> None:
        """`references[i]` are the token lists of image i, at least one."""
        assert references
        assert all(references)
        ids = _word_ids(vocabulary, references)
        rows = [[*(ids[word] for word in reference), EOS] for of_image in references for reference in of_image]
        self._num_words = len(ids) + UNK + 1
        self._log_images = float(np.log(float(len(references))))
        references_of_image = np.array([len(of_image) for of_image in references])
        self._num_references = references_of_image
        self._first_row = np.concatenate([[0], np.cumsum(references_of_image)])
        image_of_row = np.repeat(np.arange(len(references)), references_of_image)

        tokens, lengths = _matrix(rows)
        self._keys: list[np.ndarray] = []  # by order: sorted keys of the known n-grams
        self._first_of_order: list[int] = []  # by order: the number of the first key
        entries = self._count(tokens, lengths, learn=True)
        num_ngrams = self._first_of_order[-1] + len(self._keys[-1])
        document_pairs = np.unique(entries.ngram * len(references) + image_of_row[entries.row])
        self._idf = self._log_images - np.log(np.bincount(document_pairs // len(references), minlength=num_ngrams))
        self._lengths = lengths
        self._norms = self._norm(entries, len(rows), self._idf[entries.ngram])
        self._entries = entries
        self._weights = entries.count * self._idf[entries.ngram]
        self._first_entry = np.searchsorted(entries.row, np.arange(len(rows) + 1))

    def __call__(self, images: np.ndarray, captions: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the reward, float64 (captions,), of each caption i of image `images[i]`.

        A caption is token ids, with <eos> where it ended.
        """
        tokens, lengths = _matrix(captions)
        candidates = self._count(tokens, lengths, learn=False)
        known = candidates.ngram >= 0
        idf = np.where(known, self._idf[candidates.ngram], self._log_images)
        norms = self._norm(candidates, len(captions), idf)

        # One line per pair of a caption and a reference of its image; then one entry per n-gram of a line's reference.
        num_lines = self._num_references[images]
        caption_of_line = np.repeat(np.arange(len(captions)), num_lines)
        row_of_line = _ranges(self._first_row[images], num_lines)
        num_entries = np.diff(self._first_entry)[row_of_line]
        line_of_entry = np.repeat(np.arange(len(row_of_line)), num_entries)
        entry = _ranges(self._first_entry[row_of_line], num_entries)

        # The caption's weight of each entry's n-gram: 0 where the caption lacks it.
        keys = candidates.row[known] * len(self._idf) + candidates.ngram[known]
        order = np.argsort(keys)
        keys = np.append(keys[order], -1)
        weights = np.append((candidates.count * idf)[known][order], 0.0)
        targets = caption_of_line[line_of_entry] * len(self._idf) + self._entries.ngram[entry]
        index = np.searchsorted(keys[:-1], targets)
        in_caption = np.where(keys[index] == targets, weights[index], 0.0)

        overlap = np.bincount(
            line_of_entry * MAX_ORDER + self._entries.order[entry],
            weights=np.minimum(in_caption, self._weights[entry]) * self._weights[entry],
            minlength=len(row_of_line) * MAX_ORDER,
        ).reshape(-1, MAX_ORDER)
        product = norms[caption_of_line] * self._norms[row_of_line]
        cosine = np.divide(overlap, product, out=overlap.copy(), where=product != 0)
        difference = (lengths[caption_of_line] - self._lengths[row_of_line]).astype(np.float64)
        of_line = cosine.mean(axis=1) * np.exp(-(difference**2) / (2 * SIGMA**2))
        sums = np.bincount(caption_of_line, weights=of_line, minlength=len(captions))
        return np.asarray(sums / num_lines * SCALE)

    def _count(self, tokens: np.ndarray, lengths: np.ndarray, *, learn: bool) -> _NgramCounts:
        """Count the distinct n-grams of each row, in the order of the rows; with `learn` they become the known ones.

        Unknown n-grams have the number -1, and an entry for each distinct one.
        """
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        local = np.zeros_like(tokens)  # number of the n - 1 words before each word, among these rows
        numbers = np.zeros(1, dtype=np.int64)  # its number among the known n-grams
        for order in range(MAX_ORDER):
            if order and tokens.shape[1] > 1:
                local, tokens = local[:, :-1], tokens[:, 1:]
            lasts = np.arange(tokens.shape[1]) + order < lengths[:, None]
            row, column = np.nonzero(lasts)
            pairs = local[row, column] * self._num_words + tokens[row, column]
            unique, inverse = np.unique(pairs, return_inverse=True)
            prefixes, words = np.divmod(unique, self._num_words)
            prefix_numbers = numbers[prefixes]
            keys = np.where(prefix_numbers >= 0, prefix_numbers * self._num_words + words, -1)
            if learn:
                first = self._first_of_order[-1] + len(self._keys[-1]) if order else 0
                self._keys.append(np.sort(keys))
                self._first_of_order.append(first)
            known = self._keys[order]
            index = np.minimum(np.searchsorted(known, keys), max(0, len(known) - 1))
            is_known = (known[index] == keys) & (keys >= 0) if len(known) else np.zeros(len(keys), dtype=bool)
            numbers = np.where(is_known, index + self._first_of_order[order], -1)
            local = np.zeros(lasts.shape, dtype=np.int64)
            local[row, column] = inverse
            in_row, count = np.unique(row * max(1, len(unique)) + inverse, return_counts=True)
            of_row, ngram = np.divmod(in_row, max(1, len(unique)))
            parts.append((of_row, numbers[ngram], np.full(len(of_row), order), count.astype(np.float64)))
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        by_row = np.argsort(joined[0], kind="stable")
        return _NgramCounts(*(column[by_row] for column in joined))

    @staticmethod
    def _norm(entries: _NgramCounts, num_rows: int, idf: np.ndarray) -> np.ndarray:
        """Return the norms of the rows' vectors, (rows, orders)."""
        squares = np.bincount(
            entries.row * MAX_ORDER + entries.order, weights=(entries.count * idf) ** 2, minlength=num_rows * MAX_ORDER
        )
        return np.asarray(np.sqrt(squares).reshape(num_rows, MAX_ORDER))


def _word_ids(vocabulary: Vocabulary, references: Sequence[Sequence[list[str]]]) -> dict[str, int]:
    """Return ids of the vocabulary's words and, above them, of words only in references, which no caption can match."""
    ids = {word: word_id for word_id, word in enumerate(vocabulary.tokens) if word_id > UNK}
    for of_image in references:
        for reference in of_image:
            for word in reference:
                ids.setdefault(word, len(ids) + UNK + 1)
    return ids


def _matrix(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return token ids (rows, longest) padded with 0, and lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.zeros((len(rows), max(1, int(lengths.max()))), dtype=np.int64)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = [token for row in rows for token in row]
    return tokens, lengths


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the concatenated ranges start, start + 1, ... of the given lengths."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths))
