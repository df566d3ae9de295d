"""How well does a classifier's score for a class rank that class's images above all others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, roc_curve

from seesay.evaluation.class_predictions import SplitPredictions


@dataclass(frozen=True)
class RocCurve:
    """The true positive rate over the false positive rate of one class against all others; `area` in [0, 1]."""

    false_positives: np.ndarray
    true_positives: np.ndarray
    area: float


def one_vs_rest(split: SplitPredictions) -> dict[int, RocCurve]:
    """A curve per class index; classes without images, or with all of them, have none."""
    probabilities = split.probabilities
    counts = np.bincount(split.labels, minlength=len(split.class_labels))
    curves = {}
    for index in np.flatnonzero((counts > 0) & (counts < len(split.labels))).tolist():
        false_positives, true_positives, _ = roc_curve(split.labels == index, probabilities[:, index])
        curves[index] = RocCurve(false_positives, true_positives, float(auc(false_positives, true_positives)))
    return curves


def macro_curve(curves: Sequence[RocCurve]) -> RocCurve:
    """The mean of the curves' true positive rates at each false positive rate; its area is the mean of theirs."""
    grid = np.unique(np.concatenate([curve.false_positives for curve in curves]))
    # Where a curve goes straight up, `np.interp` gives the upper end; seen from the right, the lower one.
    upper = [np.interp(grid, curve.false_positives, curve.true_positives) for curve in curves]
    lower = [np.interp(-grid, -curve.false_positives[::-1], curve.true_positives[::-1]) for curve in curves]
    ends = np.stack([np.mean(lower, axis=0), np.mean(upper, axis=0)], axis=1)
    return RocCurve(np.repeat(grid, 2), ends.ravel(), float(np.mean([curve.area for curve in curves])))
