"""Do a classifier's probabilities mean what they say, and what one number makes them so?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from seesay.evaluation.class_predictions import SplitPredictions

NUM_BINS = 15
"""Guo et al. (2017); errors of other numbers of bins do not compare with theirs."""

_LOWEST, _HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """Per bin of confidence, NUM_BINS equal ones over [0, 1]: `counts` of images (int64), and among them the mean
    `confidence` and the share that is right (`accuracy`), both 0 in an empty bin."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1], lower is better: the mean over images of |accuracy - confidence|
        of their bin (Naeini et al., 2015; Guo et al., 2017)."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def reliability(split: SplitPredictions) -> Reliability:
    """Images by the probability of the class predicted; a bin holds its upper edge, not its lower one."""
    confidence = split.probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    sums = (np.bincount(bins, weights=of, minlength=NUM_BINS) for of in (confidence, split.predicted == split.labels))
    means = [total / np.maximum(counts, 1) for total in sums]
    return Reliability(counts, means[0], means[1])


def fit_temperature(split: SplitPredictions) -> float:
    """What to divide the logits by for the lowest cross-entropy on `split` (Guo et al., 2017), in [0.05, 20].

    Above 1: the classifier is too sure. Fit it on val, never on test. It changes no decision.
    """
    logits = split.logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    of_label = logits[np.arange(len(split.labels)), split.labels].mean()

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float(np.log(np.exp(logits * scale).sum(axis=1)).mean() - of_label * scale)

    bounds = (math.log(_LOWEST), math.log(_HIGHEST))  # the loss has one minimum: it is convex in 1 / temperature
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def scaled(split: SplitPredictions, temperature: float) -> SplitPredictions:
    """The same predictions with logits divided by `temperature`."""
    return replace(split, logits=(split.logits.astype(np.float64) / temperature).astype(np.float32))
