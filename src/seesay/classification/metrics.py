"""How good a classifier's predictions are: overall, per class, and what it takes for what."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import auc, precision_recall_fscore_support, roc_curve

from seesay.classification.predictions import ClassPredictions, SplitPredictions
from seesay.resampling import bootstrap_interval


def classification_metrics(
    predictions: ClassPredictions, *, bootstrap_resamples: int, bootstrap_seed: int
) -> dict[str, float]:
    """Flat keys; shares and areas are fractions.

    `test/top1` with its 95 % interval `test/top1_low`, `test/top1_high`; `test/loss` (mean cross-entropy);
    `test/macro_f1`; `test/balanced_accuracy` (mean recall of the classes); `test/auc_macro` (one against the rest, mean
    of the classes that can be measured, absent where none can); `test/ece` (expected calibration error);
    `calibration/temperature`, fitted on val, and with it `test/ece_calibrated`, `test/loss_calibrated`;
    `test/num_images`; `val/top1`, `val/loss`; `test/top5` and `val/top5` where there are more than five classes.
    """
    metrics: dict[str, float] = {}
    for name, split in (("val", predictions.val), ("test", predictions.test)):
        metrics[f"{name}/loss"] = cross_entropy(split)
        metrics[f"{name}/top1"] = top_accuracy(split, k=1)
        if len(split.class_labels) > 5:
            metrics[f"{name}/top5"] = top_accuracy(split, k=5)
    test = predictions.test
    per_class = _per_class(test)
    metrics["test/macro_f1"] = float(np.mean(per_class["f1"]))
    metrics["test/balanced_accuracy"] = float(np.mean(per_class["recall"][per_class["support"] > 0]))
    if curves := one_vs_rest(test):
        metrics["test/auc_macro"] = float(np.mean([curve.area for curve in curves.values()]))
    metrics["test/top1_low"], metrics["test/top1_high"] = bootstrap_interval(
        test.predicted == test.labels, num_resamples=bootstrap_resamples, seed=bootstrap_seed
    )
    metrics["calibration/temperature"] = temperature = fit_temperature(predictions.val)
    calibrated = scaled(test, temperature)
    metrics["test/ece"], metrics["test/ece_calibrated"] = reliability(test).error, reliability(calibrated).error
    metrics["test/loss_calibrated"] = cross_entropy(calibrated)
    metrics["test/num_images"] = float(len(test.labels))
    return metrics


def seed_metrics(networks: Sequence[ClassPredictions]) -> dict[str, float]:
    """Over the networks of one cell's seeds, two or more: `seeds/num`, and of val's and test's top-1 the mean and the
    sample standard deviation (`seeds/test/top1_mean`, `seeds/test/top1_std`, likewise val); empty for a single one.
    """
    if len(networks) < 2:
        return {}
    metrics = {"seeds/num": float(len(networks))}
    for name in ("val", "test"):
        shares = [top_accuracy(getattr(network, name), k=1) for network in networks]
        metrics[f"seeds/{name}/top1_mean"] = statistics.fmean(shares)
        metrics[f"seeds/{name}/top1_std"] = statistics.stdev(shares)
    return metrics


def averaged(first: SplitPredictions, second: SplitPredictions) -> SplitPredictions:
    """Of two sets of answers to the same images the mean of their probabilities; logits are its logarithm."""
    mean = (first.probabilities + second.probabilities) / 2
    return replace(first, logits=np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32))


def top_accuracy(split: SplitPredictions, *, k: int) -> float:
    """The share of images whose label is among the k largest logits; of equal logits the first class's counts more."""
    rows = np.arange(len(split.labels))
    of_label = split.logits[rows, split.labels][:, None]
    before = np.arange(split.logits.shape[1]) < split.labels[:, None]
    ahead = (split.logits > of_label) | ((split.logits == of_label) & before)
    return float(np.mean(ahead.sum(axis=1) < k))


def cross_entropy(split: SplitPredictions) -> float:
    """The mean of -ln(probability of the label), in nats."""
    logits = split.logits.astype(np.float64)
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return float(np.mean(log_sum - logits[np.arange(len(split.labels)), split.labels]))


def per_class_table(split: SplitPredictions) -> str:
    """CSV `class_index,label,precision,recall,f1,support`, a row per class; a class never predicted has precision 0."""
    columns = _per_class(split)
    rows = zip(*(columns[name] for name in ("precision", "recall", "f1", "support")), strict=True)
    lines = [
        [index, label, f"{precision:.6f}", f"{recall:.6f}", f"{f1:.6f}", int(support)]
        for index, (label, (precision, recall, f1, support)) in enumerate(
            zip(distinct_labels(split), rows, strict=True)
        )
    ]
    return _csv(["class_index", "label", "precision", "recall", "f1", "support"], lines)


def confusion_table(split: SplitPredictions) -> str:
    """CSV `actual,predicted`, a row per image in the split's order: for the confusion matrix of `dvc plots`."""
    names = distinct_labels(split)
    pairs = zip(split.labels, split.predicted, strict=True)
    return _csv(["actual", "predicted"], [[names[actual], names[predicted]] for actual, predicted in pairs])


def distinct_labels(split: SplitPredictions) -> list[str]:
    """The classes' words; those that share one get their index behind it."""
    counts = Counter(split.class_labels)
    return [label if counts[label] == 1 else f"{label} ({i})" for i, label in enumerate(split.class_labels)]


def confusion_counts(split: SplitPredictions) -> np.ndarray:
    """int64 (num_classes, num_classes): how many images of the row's class were taken for the column's."""
    num_classes = len(split.class_labels)
    flat = np.bincount(split.labels * num_classes + split.predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def _per_class(split: SplitPredictions) -> dict[str, np.ndarray]:
    classes = np.arange(len(split.class_labels))
    measured = precision_recall_fscore_support(split.labels, split.predicted, labels=classes, zero_division=0.0)
    return dict(zip(("precision", "recall", "f1", "support"), measured, strict=True))


def _csv(header: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


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
