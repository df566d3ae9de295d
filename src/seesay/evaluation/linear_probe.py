"""How much of an image's class can be read from its latents by a linear map?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from seesay.evaluation.latents import Latents

INVERSE_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)
"""scikit-learn's C: from a strongly held down probe of 1,024 numbers to one that learns its images by heart."""

_MAX_STEPS = 200


@dataclass(frozen=True)
class Probe:
    """`is_right`: bool of each test image. `inverse_strength` is the one of `INVERSE_STRENGTHS` best on val."""

    is_right: np.ndarray
    val_top1: float
    inverse_strength: float

    @property
    def top1(self) -> float:
        return float(np.mean(self.is_right))


def linear_probe(latents: Latents, *, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Probe:
    """A logistic regression fitted on train, its regularisation chosen on val, measured on test.

    `train`, `val`, `test` are labels (n,). Of equal accuracies on val the stronger regularisation wins.
    """
    best: tuple[float, float, LogisticRegression] | None = None
    for strength in INVERSE_STRENGTHS:
        probe = LogisticRegression(C=strength, max_iter=_MAX_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is regularisation too
            probe.fit(latents.train, train)
        found = float(np.mean(probe.predict(latents.val) == val))
        if best is None or found > best[0]:
            best = (found, strength, probe)
    assert best is not None
    return Probe(best[2].predict(latents.test) == test, best[0], best[1])
