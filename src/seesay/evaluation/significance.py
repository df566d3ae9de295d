"""How far could an accuracy have come out otherwise, and is one classifier really better than another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import binomtest

from seesay.evaluation.class_predictions import SplitPredictions
from seesay.seeding import numpy_generator


@dataclass(frozen=True)
class McNemar:
    """`b` images only the first of two classifiers gets right, `c` only the second; `p`: how likely a difference at
    least as large is when both are equally good."""

    b: int
    c: int
    p: float


def bootstrap_interval(
    is_right: np.ndarray, *, num_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of a share (Efron, 1979) from a bool per image, over resamples of the images.

    Drawing n of n images with replacement and counting the right ones is drawing from Binomial(n, share), which is
    what is done here: the same distribution at a thousandth of the work.
    """
    n, share = len(is_right), float(np.mean(is_right))
    shares = numpy_generator(seed, "bootstrap").binomial(n, share, size=num_resamples) / n
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test (1947): two-sided binomial on the images that one of two classifiers alone gets right.

    Both arrays have a bool per image, of the same images in the same order.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(b, c, float(binomtest(b, b + c).pvalue) if b + c else 1.0)


def compare_neighbours(
    rows: Sequence[Mapping[str, Any]], predictions: Mapping[str, SplitPredictions]
) -> dict[str, dict[str, Any]]:
    """For each cell but the last of its dataset's ranking by `test/top1`: `mcnemar/next`, the cell ranked below it,
    and `mcnemar/b`, `mcnemar/c`, `mcnemar/p` of the two. Equal accuracies are ranked in the order of `rows`.

    `predictions` are of the test split, by cell.
    """
    found: dict[str, dict[str, Any]] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        ranked = sorted((row for row in rows if row["dataset"] == dataset), key=lambda row: -row["test/top1"])
        for better, worse in pairwise(ranked):
            pair = [predictions[row["cell"]] for row in (better, worse)]
            result = mcnemar(*(split.predicted == split.labels for split in pair))
            found[better["cell"]] = {
                "mcnemar/next": worse["cell"],
                "mcnemar/b": result.b,
                "mcnemar/c": result.c,
                "mcnemar/p": result.p,
            }
    return found
