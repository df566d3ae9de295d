"""How well a caption agrees with what references say that others do not: CIDEr-D (Vedantam et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seesay.captioning.metrics.ngrams import MAX_ORDER, UNKNOWN, NGramCounts, count_ngrams, positions_of

SIGMA = 6.0
"""Width, in tokens, of the penalty for a length that differs from the reference's."""

SCALE = 10.0


class CiderReferences:
    """One split's references, counted and weighted once, against which any captions can be scored.

    An n-gram's weight is its count times log(images / images whose references hold it).
    """

    def __init__(self, references: Sequence[Sequence[list[str]]]) -> None:
        """`references[i]` are the token lists of image i, at least one."""
        assert references
        assert all(references)
        self.num_images = len(references)
        self.log_images = float(np.log(float(self.num_images)))
        self.references_of_image = np.fromiter(map(len, references), np.int64, self.num_images)
        # A row is a reference; an entry is one n-gram of a row. Rows and entries lie in the order of the images.
        self.image_of_row = np.repeat(np.arange(self.num_images), self.references_of_image)
        self.counts = count_ngrams([reference for of_image in references for reference in of_image])
        self.row_length = _lengths(self.counts)
        num_ngrams = self.counts.num_ngrams
        image_of_entry = self.image_of_row[self.counts.row]
        pairs = np.sort(image_of_entry * num_ngrams + self.counts.ngram)
        is_new = np.append(True, pairs[1:] != pairs[:-1]) if len(pairs) else np.zeros(0, dtype=bool)
        frequencies = np.bincount(pairs[is_new] % max(1, num_ngrams), minlength=num_ngrams)
        self.idf = self.log_images - np.log(frequencies.astype(np.float64))
        self.weight = self.counts.count * self.idf[self.counts.ngram]
        self.row_norm = np.sqrt(_by_row_and_order(self.counts, self.weight**2))
        self.first_row = np.append(0, np.cumsum(self.references_of_image))
        self.first_entry = np.searchsorted(self.counts.row, self.first_row)

    def score(self, predictions: Sequence[list[str]]) -> np.ndarray:
        """CIDEr-D of each image's caption, float64 (N,), in the references' order; the corpus value is the mean.

        In [0, 10], higher is better; 1.0 here is "100" in papers.
        """
        assert len(predictions) == self.num_images, (len(predictions), self.num_images)
        return self.score_some(predictions, np.arange(self.num_images))

    def score_some(self, predictions: Sequence[list[str]], images: np.ndarray) -> np.ndarray:
        """CIDEr-D of any captions, float64 (M,): `predictions[i]` is one of image `images[i]`'s, which may repeat."""
        assert len(predictions) == len(images), (len(predictions), len(images))
        counts = count_ngrams(predictions)
        number, weight, norm = self._weigh(counts)
        # Pairs of a caption and a reference, caption by caption.
        num_pairs = self.references_of_image[images]
        caption_of_pair, pair_row = _spread(self.first_row[images], num_pairs)
        first_pair = np.cumsum(num_pairs) - num_pairs
        # Of the references' entries only those whose n-gram some caption has can add anything.
        spoken = np.zeros(self.counts.num_ngrams, dtype=bool)
        spoken[number[number >= 0]] = True
        caption, entry = _spread(self.first_entry[images], self.first_entry[images + 1] - self.first_entry[images])
        kept = spoken[self.counts.ngram[entry]]
        caption, entry = caption[kept], entry[kept]
        known = np.flatnonzero(number >= 0)
        keys = counts.row[known] * self.counts.num_ngrams + number[known]
        by_key = np.argsort(keys)
        place = positions_of(caption * self.counts.num_ngrams + self.counts.ngram[entry], keys[by_key])
        met = place >= 0
        caption, entry, place = caption[met], entry[met], place[met]
        pair = first_pair[caption] + self.counts.row[entry] - self.first_row[images[caption]]
        theirs = self.weight[entry]
        shared = np.minimum(weight[known][by_key][place], theirs) * theirs
        overlap = _sums(pair, self.counts.order[entry], shared, num_rows=len(pair_row))
        values = self._combine(overlap, norm[caption_of_pair], _lengths(counts)[caption_of_pair], pair_row)
        sums = np.bincount(caption_of_pair, weights=values, minlength=len(predictions))
        scores: np.ndarray = sums / num_pairs * SCALE
        return scores

    def score_constant(self, tokens: Sequence[str]) -> np.ndarray:
        """CIDEr-D of the same caption for every image, float64 (N,)."""
        counts = count_ngrams([tokens])
        number, weight, norm = self._weigh(counts)
        weights = np.zeros(self.counts.num_ngrams)
        weights[number[number >= 0]] = weight[number >= 0]
        entry = np.flatnonzero(weights[self.counts.ngram])
        theirs = self.weight[entry]
        num_rows = len(self.row_length)
        shared = np.minimum(weights[self.counts.ngram[entry]], theirs) * theirs
        overlap = _sums(self.counts.row[entry], self.counts.order[entry], shared, num_rows=num_rows)
        values = self._combine(overlap, norm, _lengths(counts), np.arange(num_rows))
        sums = np.bincount(self.image_of_row, weights=values, minlength=self.num_images)
        return sums / self.references_of_image * SCALE

    def rank_constants(self, candidates: Sequence[Sequence[str]], *, limit: int) -> list[int]:
        """Positions of the `limit` candidates that agree best with all references together, best first.

        A linear stand-in for `score_constant`, without clipping and the penalty for length: one pass for any number.
        """
        norms = self.row_norm[self.counts.row, self.counts.order]
        share = np.divide(self.weight, norms, out=np.zeros_like(norms), where=norms != 0)
        agreement = np.bincount(self.counts.ngram, weights=share, minlength=self.counts.num_ngrams)
        counts = count_ngrams(candidates)
        number, weight, norm = self._weigh(counts)
        sums = _by_row_and_order(counts, np.where(number < 0, 0.0, weight * agreement[number]))
        values = np.divide(sums, norm, out=np.zeros_like(sums), where=norm != 0).sum(axis=1)
        return [int(position) for position in np.argsort(-values, kind="stable")[:limit]]

    def _weigh(self, counts: NGramCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each entry of captions its n-gram's number here and its weight; the captions' norms (captions, orders).

        An n-gram that no reference has (`UNKNOWN`) weighs as if one image's had it.
        """
        number = counts.numbers_in(self.counts)[counts.ngram]
        weight = counts.count * np.where(number == UNKNOWN, self.log_images, self.idf[number])
        return number, weight, np.sqrt(_by_row_and_order(counts, weight**2))

    def _combine(self, overlap: np.ndarray, norm: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A caption's agreement with each of the references `rows`: cosines by order, the mean of them, lengths."""
        product = norm * self.row_norm[rows]
        cosine = np.divide(overlap, product, out=overlap.copy(), where=product != 0)
        difference = (lengths - self.row_length[rows]).astype(np.float64)
        means: np.ndarray = cosine.mean(axis=1) * np.exp(-(difference**2) / (2 * SIGMA**2))
        return means


def image_cider_d(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """CIDEr-D of each image's caption, float64 (N,), equal to pycocoevalcap 1.2's `Cider`; the corpus's is the mean.

    In [0, 10], higher is better; 1.0 here is "100" in papers. Document frequencies come from `references` themselves:
    values of different sets of images are not comparable to the digit.
    """
    return CiderReferences(references).score(predictions)


def _by_row_and_order(counts: NGramCounts, values: np.ndarray) -> np.ndarray:
    """Sums of the entries' values, (captions, orders)."""
    return _sums(counts.row, counts.order, values, num_rows=len(counts.lengths))


def _sums(row: np.ndarray, order: np.ndarray, values: np.ndarray, *, num_rows: int) -> np.ndarray:
    """float64 (rows, orders), also where there is nothing to add."""
    flat = np.bincount(row * MAX_ORDER + order, weights=values, minlength=num_rows * MAX_ORDER)
    return np.asarray(flat, dtype=np.float64).reshape(num_rows, MAX_ORDER)


def _spread(first: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs `first[i]`, `first[i] + 1`, ... of `sizes[i]` numbers, and which i each number is of."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)


def _lengths(counts: NGramCounts) -> np.ndarray:
    lengths: np.ndarray = np.maximum(0, counts.lengths - 1)  # coco-caption measures length in bigrams
    return lengths
