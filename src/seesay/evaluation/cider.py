"""How well a caption agrees with what references say that others do not: CIDEr-D (Vedantam et al., 2015)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from seesay.evaluation.ngrams import MAX_ORDER, NGram, count_ngrams

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
        counts = [[count_ngrams(reference) for reference in of_image] for of_image in references]
        self.num_images = len(references)
        self.log_images = float(np.log(float(self.num_images)))
        self.ids: dict[NGram, int] = {}
        frequencies: list[int] = []
        for of_image in counts:
            for ngram in set().union(*of_image):
                ngram_id = self.ids.setdefault(ngram, len(self.ids))
                if ngram_id == len(frequencies):
                    frequencies.append(0)
                frequencies[ngram_id] += 1
        # A row is a reference, an entry one n-gram of a row.
        self.image_of_row = np.repeat(np.arange(self.num_images), [len(of_image) for of_image in references])
        rows = [count for of_image in counts for count in of_image]
        self.idf = self.log_images - np.log(np.array(frequencies, dtype=np.float64))
        self.idf_of_id: list[float] = self.idf.tolist()  # quicker one by one
        self.entry_row = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        self.entry_ngram = np.array([self.ids[ngram] for row in rows for ngram in row], dtype=np.int64)
        self.entry_order = np.array([len(ngram) - 1 for row in rows for ngram in row], dtype=np.int64)
        term_counts = np.array([count for row in rows for count in row.values()], dtype=np.float64)
        self.entry_weight = term_counts * self.idf[self.entry_ngram]
        self.row_norm = np.sqrt(self._by_row_and_order(self.entry_weight**2))
        self.row_length = np.array([_num_bigrams(reference) for of_image in references for reference in of_image])
        self.references_of_image = np.bincount(self.image_of_row)

    def score(self, predictions: Sequence[list[str]]) -> np.ndarray:
        """CIDEr-D of each image's caption, float64 (N,), in the references' order; the corpus value is the mean."""
        assert len(predictions) == self.num_images, (len(predictions), self.num_images)
        keys: list[int] = []
        weights: list[float] = []
        norms = np.zeros((self.num_images, MAX_ORDER))
        for image, tokens in enumerate(predictions):
            known, norms[image] = self._weigh(count_ngrams(tokens))
            keys += [image * len(self.ids) + ngram_id for ngram_id, _ in known]
            weights += [weight for _, weight in known]
        order = np.argsort(np.array(keys, dtype=np.int64))
        sorted_keys = np.append(np.array(keys, dtype=np.int64)[order], -1)  # what searchsorted finds beyond the end
        sorted_weights = np.append(np.array(weights, dtype=np.float64)[order], 0.0)
        wanted = self.image_of_row[self.entry_row] * len(self.ids) + self.entry_ngram
        place = np.searchsorted(sorted_keys[:-1], wanted)
        in_caption = np.where(sorted_keys[place] == wanted, sorted_weights[place], 0.0)
        lengths = np.array([_num_bigrams(tokens) for tokens in predictions])
        return self._combine(in_caption, norms[self.image_of_row], lengths[self.image_of_row])

    def score_constant(self, tokens: Sequence[str]) -> np.ndarray:
        """CIDEr-D of the same caption for every image, float64 (N,)."""
        known, norm = self._weigh(count_ngrams(tokens))
        weights = np.zeros(len(self.ids))
        for ngram_id, weight in known:
            weights[ngram_id] = weight
        num_rows = len(self.row_length)
        lengths = np.full(num_rows, _num_bigrams(tokens))
        return self._combine(weights[self.entry_ngram], np.broadcast_to(norm, (num_rows, MAX_ORDER)), lengths)

    def rank_constants(self, candidates: Sequence[Sequence[str]], *, limit: int) -> list[int]:
        """Positions of the `limit` candidates that agree best with all references together, best first.

        A linear stand-in for `score_constant`, without clipping and the penalty for length: one pass for any number.
        """
        norms = self.row_norm[self.entry_row, self.entry_order]
        share = np.divide(self.entry_weight, norms, out=np.zeros_like(norms), where=norms != 0)
        agreement = np.bincount(self.entry_ngram, weights=share, minlength=len(self.ids)).tolist()
        values = np.zeros(len(candidates))
        for position, tokens in enumerate(candidates):
            counts = count_ngrams(tokens)
            known, norm = self._weigh(counts)
            sums = [0.0] * MAX_ORDER
            for ngram, (ngram_id, weight) in zip((n for n in counts if n in self.ids), known, strict=True):
                sums[len(ngram) - 1] += weight * agreement[ngram_id]
            values[position] = np.divide(sums, norm, out=np.zeros(MAX_ORDER), where=norm != 0).sum()
        return [int(position) for position in np.argsort(-values, kind="stable")[:limit]]

    def _weigh(self, counts: Counter[NGram]) -> tuple[list[tuple[int, float]], np.ndarray]:
        """(id, weight) of a caption's n-grams that the references hold, and its norm by order over all n-grams."""
        known: list[tuple[int, float]] = []
        squares = [0.0] * MAX_ORDER
        idf = self.idf_of_id
        for ngram, count in counts.items():
            ngram_id = self.ids.get(ngram)
            weight = count * (self.log_images if ngram_id is None else idf[ngram_id])
            squares[len(ngram) - 1] += weight**2
            if ngram_id is not None:
                known.append((ngram_id, weight))
        return known, np.sqrt(squares)

    def _combine(self, in_caption: np.ndarray, norms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Scores from the caption's weight for each entry, and its norm and length for each row."""
        overlap = self._by_row_and_order(np.minimum(in_caption, self.entry_weight) * self.entry_weight)
        product = norms * self.row_norm
        cosine = np.divide(overlap, product, out=overlap.copy(), where=product != 0)
        difference = (lengths - self.row_length).astype(np.float64)
        cosine *= np.exp(-(difference**2) / (2 * SIGMA**2))[:, None]
        sums = np.bincount(self.image_of_row, weights=cosine.mean(axis=1), minlength=self.num_images)
        return sums / self.references_of_image * SCALE

    def _by_row_and_order(self, values: np.ndarray) -> np.ndarray:
        num_rows = len(self.image_of_row)
        flat = np.bincount(
            self.entry_row * MAX_ORDER + self.entry_order, weights=values, minlength=num_rows * MAX_ORDER
        )
        return flat.reshape(num_rows, MAX_ORDER)


def image_cider_d(predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> np.ndarray:
    """CIDEr-D of each image's caption, float64 (N,), equal to pycocoevalcap 1.2's `Cider`; the corpus's is the mean.

    Document frequencies come from `references` themselves: values of different sets of images are not comparable to
    the digit. 1.0 here is "100" in papers.
    """
    return CiderReferences(references).score(predictions)


def _num_bigrams(tokens: Sequence[str]) -> int:
    return max(0, len(tokens) - 1)  # coco-caption measures length in bigrams
