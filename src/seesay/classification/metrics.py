"""Metrics of class predictions: overall, per class, confusions, ROC curves and calibration."""

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

NUM_BINS = 15
"""Bins of confidence, as in Guo et al. (2017); errors with other numbers of bins are not comparable with theirs."""

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class RocCurve:
    """The true positive rate over the false positive rate of one class against all others.

    `area` is the area under the curve, in [0, 1].
    """

    false_positives: np.ndarray
    true_positives: np.ndarray
    area: float


@dataclass(frozen=True)
class Reliability:
    """Accuracy by confidence, in NUM_BINS equal bins over [0, 1].

    Per bin: `counts` of images (int64), and these images' mean `confidence` and `accuracy`, both 0 in an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1]; lower is better (Naeini et al., 2015; Guo et al., 2017).

        It is the mean over images of |accuracy - confidence| of their bin.
        """
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def classification_metrics(
    predictions: ClassPredictions, *, bootstrap_resamples: int, bootstrap_seed: int
) -> dict[str, float]:
    """Compute all metrics under flat keys; shares and areas are fractions.

    - `test/top1` with its 95 % interval `test/top1_low`, `test/top1_high`; `test/loss` (mean cross-entropy).
    - `test/macro_f1`; `test/balanced_accuracy` (mean recall of the classes); both also of val.
    - `test/auc_macro`: each class against the rest, mean of the classes with a curve; absent where there is none.
    - `test/ece`: expected calibration error.
    - `calibration/temperature`, fitted on val; with it, `test/ece_calibrated` and `test/loss_calibrated`.
    - `test/num_images`; `val/top1`, `val/loss`; with more than five classes `test/top5` and `val/top5`.
    """
    metrics: dict[str, float] = {}
    for name, split in (("val", predictions.val), ("test", predictions.test)):
        metrics[f"{name}/loss"] = cross_entropy(split)
        metrics[f"{name}/top1"] = top_accuracy(split, k=1)
        if len(split.class_labels) > 5:
            metrics[f"{name}/top5"] = top_accuracy(split, k=5)
        per_class = _per_class(split)
        metrics[f"{name}/macro_f1"] = float(np.mean(per_class["f1"]))
        metrics[f"{name}/balanced_accuracy"] = float(np.mean(per_class["recall"][per_class["support"] > 0]))
    test = predictions.test
    if curves := one_vs_rest(test):
        metrics["test/auc_macro"] = float(np.mean([curve.area for curve in curves.values()]))
    metrics["test/top1_low"], metrics["test/top1_high"] = bootstrap_interval(
        test.predicted == test.labels, num_resamples=bootstrap_resamples, seed=bootstrap_seed
    )
    metrics["calibration/temperature"] = temperature = fit_temperature(predictions.val)
    calibrated = scale_logits(test, temperature)
    metrics["test/ece"], metrics["test/ece_calibrated"] = reliability(test).error, reliability(calibrated).error
    metrics["test/loss_calibrated"] = cross_entropy(calibrated)
    metrics["test/num_images"] = float(len(test.labels))
    return metrics


def seed_metrics(networks: Sequence[ClassPredictions]) -> dict[str, float]:
    """Compute metrics over the networks of one experiment's seeds; none for a single network.

    `seeds/num` is the number of networks. `seeds/test/top1_mean` and `seeds/test/top1_std` are the mean and the sample
    standard deviation of top-1 on test; the same keys with `val` are those on val.
    """
    if len(networks) < 2:
        return {}
    metrics = {"seeds/num": float(len(networks))}
    for name in ("val", "test"):
        shares = [top_accuracy(getattr(network, name), k=1) for network in networks]
        metrics[f"seeds/{name}/top1_mean"] = statistics.fmean(shares)
        metrics[f"seeds/{name}/top1_std"] = statistics.stdev(shares)
    return metrics


def average_probabilities(*predictions: SplitPredictions) -> SplitPredictions:
    """Return the mean of several predictions' probabilities for the same images; logits are its logarithm."""
    mean = sum(one.probabilities for one in predictions) / len(predictions)
    return replace(predictions[0], logits=np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32))


def top_accuracy(split: SplitPredictions, *, k: int) -> float:
    """Compute the share of images whose label is among the k largest logits; of equal logits the first ranks higher."""
    rows = np.arange(len(split.labels))
    label_logits = split.logits[rows, split.labels][:, None]
    before = np.arange(split.logits.shape[1]) < split.labels[:, None]
    ahead = (split.logits > label_logits) | ((split.logits == label_logits) & before)
    return float(np.mean(ahead.sum(axis=1) < k))


def cross_entropy(split: SplitPredictions) -> float:
    """Compute the mean of -ln(probability of the label), in nats."""
    logits = split.logits.astype(np.float64)
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return float(np.mean(log_sum - logits[np.arange(len(split.labels)), split.labels]))


def per_class_table(split: SplitPredictions) -> str:
    """Return a CSV with a row per class: `class_index,label,precision,recall,f1,support`.

    A class that is never predicted has precision 0.
    """
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
    """Return a CSV with a row per image, in the split's order: `actual,predicted`, for the matrix of `dvc plots`."""
    names = distinct_labels(split)
    pairs = zip(split.labels, split.predicted, strict=True)
    return _csv(["actual", "predicted"], [[names[actual], names[predicted]] for actual, predicted in pairs])


def distinct_labels(split: SplitPredictions) -> list[str]:
    """Return the classes' labels; those that share one get their index appended."""
    counts = Counter(split.class_labels)
    return [label if counts[label] == 1 else f"{label} ({i})" for i, label in enumerate(split.class_labels)]


def one_vs_rest(split: SplitPredictions) -> dict[int, RocCurve]:
    """Return a curve per class index; classes without images, or with all of them, have none."""
    probabilities = split.probabilities
    counts = np.bincount(split.labels, minlength=len(split.class_labels))
    curves = {}
    for index in np.flatnonzero((counts > 0) & (counts < len(split.labels))).tolist():
        false_positives, true_positives, _ = roc_curve(split.labels == index, probabilities[:, index])
        curves[index] = RocCurve(false_positives, true_positives, float(auc(false_positives, true_positives)))
    return curves


def macro_curve(curves: Sequence[RocCurve]) -> RocCurve:
    """Average the curves' true positive rates at each false positive rate; the area is the mean of theirs."""
    grid = np.unique(np.concatenate([curve.false_positives for curve in curves]))
    # Where a curve is vertical, `np.interp` gives the upper end; from the right, the lower one.
    upper = [np.interp(grid, curve.false_positives, curve.true_positives) for curve in curves]
    lower = [np.interp(-grid, -curve.false_positives[::-1], curve.true_positives[::-1]) for curve in curves]
    ends = np.stack([np.mean(lower, axis=0), np.mean(upper, axis=0)], axis=1)
    return RocCurve(np.repeat(grid, 2), ends.ravel(), float(np.mean([curve.area for curve in curves])))


def reliability(split: SplitPredictions) -> Reliability:
    """Bin images by the probability of the predicted class; a bin includes its upper edge, not its lower one."""
    confidence = split.probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    is_correct = split.predicted == split.labels
    sums = (np.bincount(bins, weights=values, minlength=NUM_BINS) for values in (confidence, is_correct))
    means = [total / np.maximum(counts, 1) for total in sums]
    return Reliability(counts, means[0], means[1])


def fit_temperature(split: SplitPredictions) -> float:
    """Fit the temperature, in [0.05, 20], that minimises the cross-entropy on `split` (Guo et al., 2017).

    Logits are divided by the temperature, which changes no decision. Above 1 the classifier is overconfident. Fit it on
    val, never on test.
    """
    logits = split.logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    mean_label_logit = logits[np.arange(len(split.labels)), split.labels].mean()

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float(np.log(np.exp(logits * scale).sum(axis=1)).mean() - mean_label_logit * scale)

    # The loss has one minimum: it is convex in 1 / temperature.
    bounds = (math.log(_MIN_TEMPERATURE), math.log(_MAX_TEMPERATURE))
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(minimum.x))


def scale_logits(split: SplitPredictions, temperature: float) -> SplitPredictions:
    """Divide the predictions' logits by `temperature`."""
    return replace(split, logits=(split.logits.astype(np.float64) / temperature).astype(np.float32))


def _per_class(split: SplitPredictions) -> dict[str, np.ndarray]:
    classes = np.arange(len(split.class_labels))
    scores = precision_recall_fscore_support(split.labels, split.predicted, labels=classes, zero_division=0.0)
    return dict(zip(("precision", "recall", "f1", "support"), scores, strict=True))


def _csv(header: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
