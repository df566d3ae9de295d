"""CIDEr-D (Vedantam et al., 2015), equal to pycocoevalcap 1.2: TF-IDF similarity of captions and references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seesay.captioning.metrics.ngrams import MAX_ORDER, UNKNOWN, NGramCounts, count_ngrams, positions_of

SIGMA = 6.0
"""Standard deviation, in tokens, of the Gaussian penalty for a length that differs from the reference's."""

SCALE = 10.0


class CiderReferences:
    """The references of a set of images, counted and weighted once, to score any captions of these images.

    The weight of an n-gram is its count times log(images / images with it in their references). Document frequencies
    come from these references, so that values of different sets of images are not comparable to the digit.
    """

    def __init__(self, references: Sequence[Sequence[list[str]]]) -> None:
        """Count the references; `references[i]` are the token lists of image i, at least one."""
        assert references
        assert all(references)
        self.num_images = len(references)
        self.log_images = float(np.log(float(self.num_images)))
        self.references_of_image = np.fromiter(map(len, references), np.int64, self.num_images)
        # A row is a reference; an entry is one n-gram of a row. Rows and entries are in the order of the images.
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

    def score(self, predictions: Sequence[list[str]]) -> np.ndarray:
        """Return CIDEr-D of each image's caption, float64 (N,), in the references' order; the corpus value is the mean.

        In [0, 10], higher is better; 1.0 here is "100" in papers.
        """
        assert len(predictions) == self.num_images, (len(predictions), self.num_images)
        counts = count_ngrams(predictions)
        number, weight, norm = self._weigh(counts)
        # Only entries of the references whose n-gram is in some caption can contribute.
        in_captions = np.zeros(self.counts.num_ngrams, dtype=bool)
        in_captions[number[number >= 0]] = True
        entry = np.flatnonzero(in_captions[self.counts.ngram])
        known = np.flatnonzero(number >= 0)
        keys = counts.row[known] * self.counts.num_ngrams + number[known]
        by_key = np.argsort(keys)
        image = self.image_of_row[self.counts.row[entry]]
        position = positions_of(image * self.counts.num_ngrams + self.counts.ngram[entry], keys[by_key])
        is_shared = position >= 0
        entry, position = entry[is_shared], position[is_shared]
        reference_weight = self.weight[entry]
        shared = np.minimum(weight[known][by_key][position], reference_weight) * reference_weight
        overlap = self._overlap(entry, shared)
        return self._scores(overlap, norm[self.image_of_row], _lengths(counts)[self.image_of_row])

    def score_constant(self, tokens: Sequence[str]) -> np.ndarray:
        """Return CIDEr-D of the same caption for every image, float64 (N,)."""
        counts = count_ngrams([tokens])
        number, weight, norm = self._weigh(counts)
        weights = np.zeros(self.counts.num_ngrams)
        weights[number[number >= 0]] = weight[number >= 0]
        entry = np.flatnonzero(weights[self.counts.ngram])
        reference_weight = self.weight[entry]
        shared = np.minimum(weights[self.counts.ngram[entry]], reference_weight) * reference_weight
        return self._scores(self._overlap(entry, shared), norm, _lengths(counts))

    def agreement(self, candidates: Sequence[Sequence[list[str]]]) -> list[np.ndarray]:
        """Return each caption's mean CIDEr-D against the others of its list, float64 (captions,) for each list.

        The captions of a list are candidates for one image, of any images. Document frequencies are those of the
        references here. A caption without others has 0.
        """
        counts = count_ngrams([caption for of_image in candidates for caption in of_image])
        _, weight, norm = self._weigh(counts)
        lengths = _lengths(counts).astype(np.float64)
        ends = np.cumsum([len(of_image) for of_image in candidates], dtype=np.int64)
        scores = []
        for of_image, end in zip(candidates, ends.tolist(), strict=True):
            rows = slice(end - len(of_image), end)
            entry = slice(*np.searchsorted(counts.row, (rows.start, rows.stop)).tolist())
            ngrams, column = np.unique(counts.ngram[entry], return_inverse=True)
            weights = np.zeros((MAX_ORDER, len(of_image), len(ngrams)))
            weights[counts.order[entry], counts.row[entry] - rows.start, column] = weight[entry]
            # (order, caption, other caption), as `score` has it for a caption and a reference
            overlap = (np.minimum(weights[:, :, None], weights[:, None]) * weights[:, None]).sum(axis=3)
            product = norm[rows].T[:, :, None] * norm[rows].T[:, None]
            cosine = np.divide(overlap, product, out=overlap.copy(), where=product != 0).mean(axis=0)
            difference = lengths[rows, None] - lengths[None, rows]
            values = cosine * np.exp(-(difference**2) / (2 * SIGMA**2)) * SCALE
            np.fill_diagonal(values, 0.0)
            scores.append(np.asarray(values.sum(axis=1) / max(1, len(of_image) - 1)))
        return scores

    def rank_constants(self, candidates: Sequence[Sequence[str]], *, limit: int) -> list[int]:
        """Return the positions of the `limit` candidates most similar to all references together, best first.

        A linear approximation of `score_constant`, without clipping and length penalty: one pass for any number of
        candidates.
        """
        norms = self.row_norm[self.counts.row, self.counts.order]
        unit_weight = np.divide(self.weight, norms, out=np.zeros_like(norms), where=norms != 0)
        total = np.bincount(self.counts.ngram, weights=unit_weight, minlength=self.counts.num_ngrams)
        counts = count_ngrams(candidates)
        number, weight, norm = self._weigh(counts)
        sums = _by_row_and_order(counts, np.where(number < 0, 0.0, weight * total[number]))
        values = np.divide(sums, norm, out=np.zeros_like(sums), where=norm != 0).sum(axis=1)
        return [int(position) for position in np.argsort(-values, kind="stable")[:limit]]

    def _weigh(self, counts: NGramCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the number here and the weight of each entry's n-gram, and the captions' norms (captions, orders).

        An n-gram that no reference has (`UNKNOWN`) has the weight of one in the references of a single image.
        """
        number = counts.numbers_in(self.counts)[counts.ngram]
        weight = counts.count * np.where(number == UNKNOWN, self.log_images, self.idf[number])
        return number, weight, np.sqrt(_by_row_and_order(counts, weight**2))

    def _overlap(self, entry: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Return the dot products of captions and references, (rows, orders), from products of the entries `entry`."""
        return _sums(self.counts.row[entry], self.counts.order[entry], shared, num_rows=len(self.row_length))

    def _scores(self, overlap: np.ndarray, norm: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the scores of captions by image: cosines by order, their mean, length penalty, mean over references.

        `norm` and `lengths` are those of each row's caption, or of one caption for all rows.
        """
        product = norm * self.row_norm
        cosine = np.divide(overlap, product, out=overlap.copy(), where=product != 0)
        difference = (lengths - self.row_length).astype(np.float64)
        values = cosine.mean(axis=1) * np.exp(-(difference**2) / (2 * SIGMA**2))
        sums = np.bincount(self.image_of_row, weights=values, minlength=self.num_images)
        scores: np.ndarray = sums / self.references_of_image * SCALE
        return scores


def _by_row_and_order(counts: NGramCounts, values: np.ndarray) -> np.ndarray:
    """Return sums of the entries' values, (captions, orders)."""
    return _sums(counts.row, counts.order, values, num_rows=len(counts.lengths))


def _sums(row: np.ndarray, order: np.ndarray, values: np.ndarray, *, num_rows: int) -> np.ndarray:
    """Return sums of `values` by row and order, float64 (rows, orders), also if there are no values."""
    flat = np.bincount(row * MAX_ORDER + order, weights=values, minlength=num_rows * MAX_ORDER)
    return np.asarray(flat, dtype=np.float64).reshape(num_rows, MAX_ORDER)


def _lengths(counts: NGramCounts) -> np.ndarray:
    lengths: np.ndarray = np.maximum(0, counts.lengths - 1)  # coco-caption measures length in bigrams
    return lengths
