"""What captions that look at no image score: the floors a captioner must clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.ngrams import MAX_ORDER, count_ngrams
from seesay.seeding import numpy_generator

MAX_CAPTIONS, MAX_CANDIDATES = 10_000, 200
"""Of the most frequent distinct training captions, and of those, how many are scored exactly: bounds on time only."""


def best_constant_caption(training: Sequence[list[str]], val: CiderReferences) -> list[str]:
    """The training caption (tokens) that has the highest CIDEr-D when it captions every val image.

    Chosen on val, never on test. Candidates are the `MAX_CANDIDATES` captions that agree best with the val references
    among the `MAX_CAPTIONS` most frequent ones.
    """
    frequent = Counter(tuple(tokens) for tokens in training).most_common(MAX_CAPTIONS)
    captions = [list(tokens) for tokens, _ in frequent]
    candidates = [captions[position] for position in val.rank_constants(captions, limit=MAX_CANDIDATES)]
    return max(candidates, key=lambda tokens: (float(val.score_constant(tokens).mean()), tokens))


def random_captions(training: Sequence[list[str]], *, num_images: int, seed: int) -> list[list[str]]:
    """One training caption (tokens) for each image, drawn with replacement."""
    drawn = numpy_generator(seed, "captions", "random").integers(len(training), size=num_images)
    return [training[position] for position in drawn]


NUMBERS_OF_NEIGHBOURS = (1, 3, 10, 30, 90)
"""Of training images, of which the best on val is taken. Devlin et al. (2015) took about 90 of 83,000."""

CHUNK = 500
"""Images compared with all training images at a time: a bound on memory only."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Borrowed:
    """Captions (tokens) of the val and test images, and of how many neighbours each is the consensus."""

    val: list[list[str]]
    test: list[list[str]]
    num_neighbours: int


def borrow_captions(
    pooled: np.ndarray, train: Rows, val: Rows, test: Rows, captions: Sequence[Sequence[list[str]]]
) -> Borrowed:
    """The consensus captions of the nearest training images' (Devlin et al., 2015), for the rows of val and test.

    `pooled` (rows, D) are the images' features and `captions[row]` their captions as tokens. Of
    `NUMBERS_OF_NEIGHBOURS` the one with the highest CIDEr-D on val is taken, the smallest among equals; test captions
    are never looked at.
    """
    unit = standardised(pooled, train)
    consensus = Consensus([captions[row] for row in train.tolist()])
    numbers = sorted({min(number, len(train)) for number in NUMBERS_OF_NEIGHBOURS})
    near_val = nearest_rows(unit[val], unit[train], limit=numbers[-1])
    judge = CiderReferences([captions[row] for row in val.tolist()])
    of_val = {number: [consensus.caption(row[:number]) for row in near_val] for number in numbers}
    best = max(numbers, key=lambda number: (float(judge.score(of_val[number]).mean()), -number))
    near_test = nearest_rows(unit[test], unit[train], limit=best)
    return Borrowed(of_val[best], [consensus.caption(row) for row in near_test], best)


def standardised(pooled: np.ndarray, train: Rows) -> np.ndarray:
    """Features of mean zero and deviation one over the rows of `train`, then each row of length one, float32 (rows, D).

    The dot product of two rows is the cosine of their angle. A dimension that never varies counts for nothing.
    """
    features = np.asarray(pooled, dtype=np.float32)
    deviation = features[train].std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    centred = (features - features[train].mean(axis=0)) * scale
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return unit


def nearest_rows(queries: np.ndarray, rows: np.ndarray, *, limit: int) -> Rows:
    """Which `limit` of `rows` (R, D) have the largest dot product with each of `queries` (N, D), best first.

    (N, limit); the earlier row goes first among equals.
    """
    assert 0 < limit <= len(rows), (limit, len(rows))
    found = [np.empty((0, limit), dtype=np.int64)]
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ rows.T
        found.append(np.argsort(-similarity, axis=1, kind="stable")[:, :limit])
    return np.concatenate(found)


class Consensus:
    """Which of several images' captions agrees best with the others.

    Two captions are as similar as CIDEr (Vedantam et al., 2015) says: the cosine of their n-grams' counts weighted by
    rarity, mean of orders one to four. That is linear, so that a sum over all others costs no more than the captions'
    own length.
    """

    def __init__(self, captions: Sequence[Sequence[list[str]]]) -> None:
        """`captions[i]` are the captions (tokens) of training image i."""
        self.captions = captions
        flat = [tokens for of_image in captions for tokens in of_image]
        self.first_of_image = np.cumsum([0, *map(len, captions)])
        counts = count_ngrams(flat)
        image_of_caption = np.repeat(np.arange(len(captions)), np.diff(self.first_of_image))
        holds = np.unique(image_of_caption[counts.row] * max(1, counts.num_ngrams) + counts.ngram)
        num_images_with = np.bincount(holds % max(1, counts.num_ngrams), minlength=counts.num_ngrams)
        weights = counts.count * np.log(len(captions) / num_images_with[counts.ngram])
        # A caption's n-grams of one order have length 1/2, so that four orders average.
        place = counts.row * MAX_ORDER + counts.order
        norms = np.sqrt(np.bincount(place, weights=weights**2, minlength=len(flat) * MAX_ORDER))[place]
        shares = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 0) / np.sqrt(MAX_ORDER)
        cuts = np.searchsorted(counts.row, np.arange(1, len(flat)))
        self.ngrams, self.weights = np.split(counts.ngram, cuts), np.split(shares, cuts)

    def caption(self, images: Sequence[int] | Rows) -> list[str]:
        """The caption of `images` most similar to their other captions on average, the earliest among equals."""
        found = [tokens for image in images for tokens in self.captions[image]]
        rows = [row for i in images for row in range(self.first_of_image[i], self.first_of_image[i + 1])]
        lengths = [len(self.ngrams[row]) for row in rows]
        ngrams = np.concatenate([self.ngrams[row] for row in rows])
        weights = np.concatenate([self.weights[row] for row in rows])
        owner = np.repeat(np.arange(len(found)), lengths)
        _, place = np.unique(ngrams, return_inverse=True)
        total = np.bincount(place, weights=weights)[place] if len(place) else weights
        others = np.bincount(owner, weights=weights * (total - weights), minlength=len(found))
        return found[int(np.argmax(others.round(9)))]  # rounded: sums in another order are no better
