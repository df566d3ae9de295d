"""How good a classifier's predictions are: overall, per class, and what it takes for what."""

from __future__ import annotations

import csv
import io
from collections import Counter

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from seesay.evaluation.class_predictions import ClassPredictions, SplitPredictions


def classification_metrics(predictions: ClassPredictions) -> dict[str, float]:
    """Fractions: `test/top1`, `test/loss` (mean cross-entropy), `test/macro_f1`, `test/num_images`, `val/top1`,
    `val/loss`, and `test/top5` and `val/top5` where there are more than five classes.
    """
    metrics: dict[str, float] = {}
    for name, split in (("val", predictions.val), ("test", predictions.test)):
        metrics[f"{name}/loss"] = cross_entropy(split)
        metrics[f"{name}/top1"] = top_accuracy(split, k=1)
        if len(split.class_labels) > 5:
            metrics[f"{name}/top5"] = top_accuracy(split, k=5)
    metrics["test/macro_f1"] = float(np.mean(_per_class(predictions.test)["f1"]))
    metrics["test/num_images"] = float(len(predictions.test.labels))
    return metrics


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
