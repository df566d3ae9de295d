"""Baseline captions: a constant one, random ones, and consensus captions of the nearest training images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seesay.arrays import one_blas_thread
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.ngrams import MAX_ORDER, count_ngrams
from seesay.seeding import numpy_generator

MAX_CAPTIONS = 10_000
"""Most frequent distinct training captions that may become the constant caption: a bound on time only."""

MAX_CANDIDATES = 200
"""Those of them that are scored exactly: a bound on time only."""

NUMBERS_OF_NEIGHBOURS = (1, 3, 10, 30, 90)
"""Numbers of nearest training images; the best on val is used. Devlin et al. (2015) used about 90 of 83,000."""

CHUNK = 500
"""Images compared with all training images at a time: a bound on memory only."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class NeighbourCaptions:
    """Captions (tokens) of the val and test images; each is the consensus of `num_neighbours` training images."""

    val: list[list[str]]
    test: list[list[str]]
    num_neighbours: int


def best_constant_caption(training: Sequence[list[str]], val: CiderReferences) -> list[str]:
    """Return the training caption (tokens) with the highest CIDEr-D when it is the caption of every val image.

    It is chosen on val, never on test. Candidates are the `MAX_CANDIDATES` captions most similar to the val references
    among the `MAX_CAPTIONS` most frequent ones.
    """
    frequent = Counter(tuple(tokens) for tokens in training).most_common(MAX_CAPTIONS)
    captions = [list(tokens) for tokens, _ in frequent]
    candidates = [captions[position] for position in val.rank_constants(captions, limit=MAX_CANDIDATES)]
    return max(candidates, key=lambda tokens: (float(val.score_constant(tokens).mean()), tokens))


def random_captions(training: Sequence[list[str]], *, num_images: int, seed: int) -> list[list[str]]:
    """Return a random training caption (tokens) for each image, drawn with replacement."""
    positions = numpy_generator(seed, "captions", "random").integers(len(training), size=num_images)
    return [training[position] for position in positions]


def nearest_neighbour_captions(
    pooled: np.ndarray, train: Rows, val: Rows, test: Rows, captions: Sequence[Sequence[list[str]]]
) -> NeighbourCaptions:
    """Return the consensus captions of the nearest training images (Devlin et al., 2015) for the rows of val and test.

    `pooled` (rows, D) are the images' features and `captions[row]` their captions as tokens. The number of neighbours
    is the one of `NUMBERS_OF_NEIGHBOURS` with the highest CIDEr-D on val, the smallest of equals; test captions are
    never used.
    """
    unit = standardise_rows(pooled, train)
    consensus = Consensus([captions[row] for row in train.tolist()])
    numbers = sorted({min(number, len(train)) for number in NUMBERS_OF_NEIGHBOURS})
    val_neighbours = nearest_rows(unit[val], unit[train], limit=numbers[-1])
    references = CiderReferences([captions[row] for row in val.tolist()])
    val_captions = {number: [consensus.caption(row[:number]) for row in val_neighbours] for number in numbers}
    best = max(numbers, key=lambda number: (float(references.score(val_captions[number]).mean()), -number))
    test_neighbours = nearest_rows(unit[test], unit[train], limit=best)
    return NeighbourCaptions(val_captions[best], [consensus.caption(row) for row in test_neighbours], best)


def standardise_rows(pooled: np.ndarray, train: Rows) -> np.ndarray:
    """Standardise features by the rows of `train`, then scale each row to length one; float32 (rows, D).

    The dot product of two rows is their cosine similarity. A constant dimension becomes zero.
    """
    features = np.asarray(pooled, dtype=np.float32)
    deviation = features[train].std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    centred = (features - features[train].mean(axis=0)) * scale
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return unit


@one_blas_thread()
def nearest_rows(queries: np.ndarray, rows: np.ndarray, *, limit: int) -> Rows:
    """Return the `limit` of `rows` (R, D) with the largest dot products with each of `queries` (N, D), (N, limit).

    The best is first; of equals the earlier row is first.
    """
    assert 0 < limit <= len(rows), (limit, len(rows))
    nearest = [np.empty((0, limit), dtype=np.int64)]
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ rows.T
        nearest.append(np.argsort(-similarity, axis=1, kind="stable")[:, :limit])
    return np.concatenate(nearest)


class Consensus:
    """The consensus caption of several training images: the one most similar to their other captions.

    The similarity of two captions is CIDEr's (Vedantam et al., 2015): the cosine of their TF-IDF weighted n-grams,
    averaged over orders one to four. It is linear, so that the sum over all other captions costs no more than the
    caption's own length.
    """

    def __init__(self, captions: Sequence[Sequence[list[str]]]) -> None:
        """Weigh all n-grams; `captions[i]` are the captions (tokens) of training image i."""
        self.captions = captions
        flat = [tokens for of_image in captions for tokens in of_image]
        self.first_of_image = np.cumsum([0, *map(len, captions)])
        counts = count_ngrams(flat)
        image_of_caption = np.repeat(np.arange(len(captions)), np.diff(self.first_of_image))
        in_image = np.unique(image_of_caption[counts.row] * max(1, counts.num_ngrams) + counts.ngram)
        num_images_with = np.bincount(in_image % max(1, counts.num_ngrams), minlength=counts.num_ngrams)
        weights = counts.count * np.log(len(captions) / num_images_with[counts.ngram])
        # A caption's n-grams of one order get norm 1/2, so that the dot product averages over the four orders.
        row_and_order = counts.row * MAX_ORDER + counts.order
        norms = np.sqrt(np.bincount(row_and_order, weights=weights**2, minlength=len(flat) * MAX_ORDER))[row_and_order]
        scaled = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 0) / np.sqrt(MAX_ORDER)
        cuts = np.searchsorted(counts.row, np.arange(1, len(flat)))
        self.ngrams, self.weights = np.split(counts.ngram, cuts), np.split(scaled, cuts)

    def caption(self, images: Sequence[int] | Rows) -> list[str]:
        """Return the caption of `images` most similar to their other captions on average, the earliest of equals."""
        candidates = [tokens for image in images for tokens in self.captions[image]]
        rows = [row for i in images for row in range(self.first_of_image[i], self.first_of_image[i + 1])]
        lengths = [len(self.ngrams[row]) for row in rows]
        ngrams = np.concatenate([self.ngrams[row] for row in rows])
        weights = np.concatenate([self.weights[row] for row in rows])
        candidate = np.repeat(np.arange(len(candidates)), lengths)
        _, number = np.unique(ngrams, return_inverse=True)
        total = np.bincount(number, weights=weights)[number] if len(number) else weights
        similarity = np.bincount(candidate, weights=weights * (total - weights), minlength=len(candidates))
        # Rounded, so that the order of summation does not decide between equals.
        return candidates[int(np.argmax(similarity.round(9)))]
