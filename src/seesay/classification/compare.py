"""Comparison of all classifiers: cost, accuracy, neighbours in the ranking, chance and published results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from seesay.classification.networks.registry import restore_classifier
from seesay.classification.predictions import SplitPredictions, read_class_predictions
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import Paths
from seesay.images.packed import ImageSplit, PackedImages
from seesay.params import results
from seesay.params.classification import Classifier
from seesay.plotting.table import CHANCE
from seesay.sources.provenance import read_source
from seesay.training.build import count_flops
from seesay.training.checkpoint import load_checkpoint

COPIED_METRICS = (
    *("test/top1", "test/top1_low", "test/top1_high", "test/top1_flipped", "test/top1_views", "test/top5"),
    *("test/macro_f1", "test/auc_macro", "test/ece", "test/ece_calibrated", "val/top1"),
    *("seeds/num", "seeds/test/top1_mean", "seeds/test/top1_std", "seeds/val/top1_mean", "seeds/val/top1_std"),
)
"""Metrics copied from those of the stage `evaluate_classifier`, where present."""

_MIN_TIMED_IMAGES = 64
"""Each timing covers at least this many images: one pass of a small network over one image is too short to time."""

_MEMORY_SHARE = 0.5
"""The share of the free memory that a timed pass may use."""


@dataclass(frozen=True)
class Comparison:
    """`rows` has a flat dictionary per classifier, per dataset's chance level and per published result.

    `throughput` has the keys `<cell>/images_per_second_batch<n>`.
    """

    rows: list[dict[str, Any]]
    throughput: dict[str, float]


@dataclass(frozen=True)
class McNemar:
    """The result of McNemar's test on two classifiers.

    `b` images are classified correctly by the first one only, `c` by the second one only. `p` is the probability of a
    difference at least as large if both are equally good.
    """

    b: int
    c: int
    p: float


def compare_classifiers(
    cells: Mapping[str, Classifier],
    datasets: Mapping[str, PackedImages],
    paths: Paths,
    settings: results.Comparison,
    *,
    compute: Compute,
) -> Comparison:
    """Compare the experiments `cells`, which use `datasets` (by name).

    The rows are in the order of `cells`, followed by a chance row per dataset and `settings.published`. The row of an
    experiment holds:

    - `cell`, `dataset`, `architecture`, `num_classes`, `num_parameters`;
    - `flops`, the floating-point operations, two per multiply-add, of one image's forward pass;
    - `training_flops` of one network, where training counted them;
    - `built_on`, the experiment of its teacher or members, where it has them;
    - accuracies, and McNemar's test against the next in its dataset's ranking;
    - `substitutes`, the names of data and weights files that differ from the official ones.

    Throughput is measured in float32 on `compute.device`. Raises `InputError` for a missing checkpoint, metrics or
    predictions file, and for one that does not fit.
    """
    rows, classifiers, predictions = [], {}, {}
    for cell, classifier_settings in cells.items():
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
        if classifier_settings.parent is not None:
            row["built_on"] = classifier_settings.parent
        rows.append({**row, **_training_flops(paths, cell), **_accuracies(paths, cell)})
        classifiers[cell] = (classifier, images.image_size)
        path = paths.class_predictions(cell)
        predictions[cell] = read_class_predictions(path).test
        first = next(row["cell"] for row in rows if row["dataset"] == checkpoint.dataset)
        if not np.array_equal(predictions[cell].labels, predictions[first].labels):
            raise InputError(
                f"{path}: its test images are not those of {paths.class_predictions(first)}; evaluate both again"
            )
    tests = compare_neighbours(rows, predictions)
    rows = [row | tests.get(row["cell"], {}) for row in rows]
    rows += [chance_row(datasets[name]) for name in dict.fromkeys(row["dataset"] for row in rows)]
    rows += [published_row(published) for published in settings.published]
    return Comparison(rows, measure_throughput(classifiers, settings, compute=compute))


def chance_row(images: PackedImages) -> dict[str, Any]:
    """Return the row of guessing without the image: always the most common classes of train. Of even classes, 1 / k."""
    num_classes = len(images.classes)
    row: dict[str, Any] = {"cell": CHANCE, "dataset": images.name, "architecture": "", "num_classes": num_classes}
    row |= {"num_parameters": 0, "flops": 0, "substitutes": list(images.source.substitutes)}
    most_common = np.argsort(-np.bincount(images.train.labels, minlength=num_classes), kind="stable")

    def top_accuracy(split: ImageSplit, k: int) -> float:
        return int(np.isin(split.labels, most_common[:k]).sum()) / len(split)

    row |= {"test/top1": top_accuracy(images.test, 1), "val/top1": top_accuracy(images.val, 1)}
    return row | ({"test/top5": top_accuracy(images.test, 5)} if num_classes > 5 else {})


def published_row(published: results.Published) -> dict[str, Any]:
    """Return the row of a published result, recognisable by its `source`, which no other row has."""
    row: dict[str, Any] = {"cell": published.name, "dataset": published.dataset, "source": published.source}
    row |= {"architecture": "", "substitutes": [], "test/top1": published.top1}
    known = {"test/top5": published.top5, "num_parameters": published.num_parameters}
    return row | {key: value for key, value in known.items() if value is not None}


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Run McNemar's exact test (1947): two-sided binomial on the images that only one classifier gets right.

    Both arrays have a bool per image, for the same images in the same order.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(b, c, float(binomtest(b, b + c).pvalue) if b + c else 1.0)


def compare_neighbours(
    rows: Sequence[Mapping[str, Any]], predictions: Mapping[str, SplitPredictions]
) -> dict[str, dict[str, Any]]:
    """Compare each experiment with the next in its dataset's ranking by `test/top1`, if there is one.

    `mcnemar/next` is the experiment ranked below; `mcnemar/b`, `mcnemar/c` and `mcnemar/p` are the test's result. Equal
    accuracies are ranked in the order of `rows`. `predictions` are those for the test split, by experiment.
    """
    tests: dict[str, dict[str, Any]] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        ranked = sorted((row for row in rows if row["dataset"] == dataset), key=lambda row: -row["test/top1"])
        for better, worse in pairwise(ranked):
            pair = [predictions[row["cell"]] for row in (better, worse)]
            result = mcnemar(*(split.predicted == split.labels for split in pair))
            tests[better["cell"]] = {
                "mcnemar/next": worse["cell"],
                "mcnemar/b": result.b,
                "mcnemar/c": result.c,
                "mcnemar/p": result.p,
            }
    return tests


def measure_throughput(
    classifiers: Mapping[str, tuple[nn.Module, int]], settings: results.Comparison, *, compute: Compute
) -> dict[str, float]:
    """Measure `<cell>/images_per_second_batch<n>`, the median over rounds.

    `classifiers` are (network, image size) by experiment. Each round times every classifier with every batch size, so
    that other load on the machine affects all of them alike. Batches that would need more than half of the free memory
    are left out.
    """
    networks = {}
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    for cell, (classifier, image_size) in classifiers.items():
        networks[cell] = (compute.place(classifier).eval(), image_size)
    seconds: dict[tuple[str, int], list[float]] = {}
    with torch.inference_mode():
        for round_ in range(settings.throughput_repeats + 1):
            for cell, (classifier, size) in networks.items():
                for batch_size in settings.throughput_batch_sizes:
                    if round_ and (cell, batch_size) not in seconds:
                        continue  # it did not fit
                    images = torch.zeros(batch_size, 3, size, size, device=compute.device).to(memory_format=layout)
                    if round_ == 0 and not _fits(classifier, images):
                        continue
                    elapsed = _seconds_per_pass(classifier, images, num_passes=max(1, _MIN_TIMED_IMAGES // batch_size))
                    times = seconds.setdefault((cell, batch_size), [])
                    if round_:  # the first round is a warm-up
                        times.append(elapsed)
    return {
        f"{cell}/images_per_second_batch{batch_size}": batch_size / statistics.median(times)
        for (cell, batch_size), times in seconds.items()
    }


def _substituted_weights(cell: str, cells: Mapping[str, Classifier], paths: Paths) -> list[str]:
    """Return the weights files that differ from the official ones, of an experiment and of those it builds on."""
    weights, parent = cells[cell].weights, cells[cell].parent
    own = [] if weights is None else list(read_source(paths.weights(weights)).substitutes)
    return own if parent is None or parent not in cells else [*own, *_substituted_weights(parent, cells, paths)]


def _accuracies(paths: Paths, cell: str) -> dict[str, float]:
    path = paths.metrics("evaluate_classifier", cell)
    metrics = read_json(path)
    if not isinstance(metrics, dict) or "test/top1" not in metrics:
        raise InputError(f"{path}: expected metrics with test/top1")
    return {name: metrics[name] for name in COPIED_METRICS if name in metrics}


def _training_flops(paths: Paths, cell: str) -> dict[str, float]:
    """Return the floating-point operations of training one network of the experiment, where they were counted."""
    metrics = read_json(paths.metrics("train_classifier", cell))
    return {"training_flops": metrics["train/flops"]} if "train/flops" in metrics else {}


def _seconds_per_pass(classifier: nn.Module, images: Tensor, *, num_passes: int) -> float:
    started = time.perf_counter()
    for _ in range(num_passes):
        classifier(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return (time.perf_counter() - started) / num_passes


def _fits(classifier: nn.Module, images: Tensor) -> bool:
    """Return whether a pass over `images` fits in memory: it needs about three times the largest layer's output."""
    largest = 0

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [module.register_forward_hook(record) for module in classifier.modules()]
    classifier(images[:1])
    for hook in hooks:
        hook.remove()
    if images.device.type == "cuda":
        free = torch.cuda.mem_get_info(images.device)[0]
    else:
        free = psutil.virtual_memory().available
    return 3 * largest * len(images) <= _MEMORY_SHARE * free
