"""What each classifier costs and how right it is, beside chance, its neighbours in the ranking and others' results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seesay.compute import Compute
from seesay.data.packed_images import PackedImages
from seesay.data.sources import read_source
from seesay.errors import InputError
from seesay.evaluation.class_predictions import read_class_predictions
from seesay.evaluation.significance import compare_neighbours
from seesay.evaluation.throughput import measure_throughput
from seesay.files import read_json
from seesay.models.checkpoint import load_checkpoint
from seesay.models.classifiers import restore_classifier
from seesay.models.flops import count_flops
from seesay.params import results
from seesay.params.experiments import Classifier
from seesay.paths import Paths

COPIED = (
    *("test/top1", "test/top1_low", "test/top1_high", "test/top1_flipped", "test/top5", "test/macro_f1"),
    *("test/auc_macro", "test/ece", "test/ece_calibrated", "val/top1"),
    *("seeds/num", "seeds/test/top1_mean", "seeds/test/top1_std", "seeds/val/top1_mean", "seeds/val/top1_std"),
)
"""Metrics taken over from `evaluate_classifier`, where it has them."""

CHANCE = "chance"


@dataclass(frozen=True)
class Comparison:
    """`rows`: a flat dictionary per classifier, per dataset's chance and per published result; `throughput`:
    `<cell>/images_per_second_batch<n>`."""

    rows: list[dict[str, Any]]
    throughput: dict[str, float]


def compare_classifiers(
    cells: Mapping[str, Classifier],
    datasets: Mapping[str, PackedImages],
    paths: Paths,
    settings: results.Comparison,
    *,
    compute: Compute,
) -> Comparison:
    """Rows in the order of `cells`, then a chance row per dataset, then `settings.published`.

    A cell's row holds cell, dataset, architecture, num_classes, num_parameters, flops (floating-point operations, two
    per multiply-add, of one image's forward pass), training_flops (of one network, where training counted them),
    built_on (the cell of its teacher or members, where it has them), accuracies, McNemar's test against the next in its
    dataset's ranking and `substitutes` (names of the files of data and of published weights that are not the official
    ones). Throughput is in float32 on `compute.device`. `datasets` are by name.

    Raises `InputError` for a missing checkpoint, metrics or predictions file, and for one that does not fit.
    """
    rows, classifiers, predictions = [], {}, {}
    for cell, its_settings in cells.items():
        checkpoint = load_checkpoint(paths.classifier(cell), kind="classifier")
        classifier = restore_classifier(checkpoint)
        images = datasets[checkpoint.dataset]
        checkpoint.require_classes(images.classes)
        row = {
            "cell": cell,
            "dataset": checkpoint.dataset,
            "architecture": checkpoint.architecture["name"],
            "num_classes": len(images.classes),
            "num_parameters": sum(parameter.numel() for parameter in classifier.parameters()),
            "flops": count_flops(classifier, image_size=images.image_size),
            "substitutes": [*images.source.substitutes, *_substituted_weights(cell, cells, paths)],
        }
        if its_settings.parent is not None:
            row["built_on"] = its_settings.parent
        rows.append({**row, **_training_flops(paths, cell), **_accuracies(paths, cell)})
        classifiers[cell] = (classifier, images.image_size)
        path = paths.class_predictions(cell)
        predictions[cell] = read_class_predictions(path).test
        first = next(row["cell"] for row in rows if row["dataset"] == checkpoint.dataset)
        if not np.array_equal(predictions[cell].labels, predictions[first].labels):
            raise InputError(f"{path}: not of the images that {paths.class_predictions(first)} is of; evaluate again")
    tests = compare_neighbours(rows, predictions)
    rows = [row | tests.get(row["cell"], {}) for row in rows]
    rows += [chance_row(datasets[name]) for name in dict.fromkeys(row["dataset"] for row in rows)]
    rows += [published_row(published) for published in settings.published]
    return Comparison(rows, measure_throughput(classifiers, settings, compute=compute))


def chance_row(images: PackedImages) -> dict[str, Any]:
    """What guessing gets on classes of equal size."""
    num_classes = len(images.classes)
    row: dict[str, Any] = {"cell": CHANCE, "dataset": images.name, "architecture": "", "num_classes": num_classes}
    row |= {"num_parameters": 0, "flops": 0, "substitutes": list(images.source.substitutes)}
    row |= {"test/top1": 1 / num_classes, "val/top1": 1 / num_classes}
    return row | ({"test/top5": 5 / num_classes} if num_classes > 5 else {})


def published_row(published: results.Published) -> dict[str, Any]:
    """Someone else's result: known by its `source`, which no row of ours has."""
    row: dict[str, Any] = {"cell": published.name, "dataset": published.dataset, "source": published.source}
    row |= {"architecture": "", "substitutes": [], "test/top1": published.top1}
    return row if published.top5 is None else row | {"test/top5": published.top5}


def _substituted_weights(cell: str, cells: Mapping[str, Classifier], paths: Paths) -> list[str]:
    """Files of published weights that are not the official ones, of a cell and of what it is built on."""
    weights, parent = cells[cell].weights, cells[cell].parent
    own = [] if weights is None else list(read_source(paths.weights(weights)).substitutes)
    return own if parent is None or parent not in cells else [*own, *_substituted_weights(parent, cells, paths)]


def _accuracies(paths: Paths, cell: str) -> dict[str, float]:
    path = paths.metrics("evaluate_classifier", cell)
    metrics = read_json(path)
    if not isinstance(metrics, dict) or "test/top1" not in metrics:
        raise InputError(f"{path}: expected metrics with test/top1")
    return {name: metrics[name] for name in COPIED if name in metrics}


def _training_flops(paths: Paths, cell: str) -> dict[str, float]:
    """Floating-point operations of training one network of the cell."""
    metrics = read_json(paths.metrics("train_classifier", cell))
    return {"training_flops": metrics["train/flops"]} if "train/flops" in metrics else {}
