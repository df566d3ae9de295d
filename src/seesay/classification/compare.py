"""What each classifier costs and how right it is, beside chance, its neighbours in the ranking and others' results."""

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
from seesay.images.packed import PackedImages
from seesay.params import results
from seesay.params.classification import Classifier
from seesay.plotting.table import CHANCE
from seesay.sources.provenance import read_source
from seesay.training.checkpoint import load_checkpoint
from seesay.training.flops import count_flops

COPIED = (
    *("test/top1", "test/top1_low", "test/top1_high", "test/top1_flipped", "test/top5", "test/macro_f1"),
    *("test/auc_macro", "test/ece", "test/ece_calibrated", "val/top1"),
    *("seeds/num", "seeds/test/top1_mean", "seeds/test/top1_std", "seeds/val/top1_mean", "seeds/val/top1_std"),
)
"""Metrics taken over from `evaluate_classifier`, where it has them."""


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


@dataclass(frozen=True)
class McNemar:
    """`b` images only the first of two classifiers gets right, `c` only the second; `p`: how likely a difference at
    least as large is when both are equally good."""

    b: int
    c: int
    p: float


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


_IMAGES_PER_VISIT = 64
"""A visit passes at least this many images: one small network's pass over one image is too short to time."""

_MEMORY_SHARE = 0.5


def measure_throughput(
    classifiers: Mapping[str, tuple[nn.Module, int]], settings: results.Comparison, *, compute: Compute
) -> dict[str, float]:
    """`<cell>/images_per_second_batch<n>`: the median over rounds; `classifiers` are (network, image size) by cell.

    Each round visits every classifier with every batch size: taking turns spreads what else the machine does over all
    of them. What would need more than half of the free memory is left out.
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
                    taken = _seconds_per_pass(classifier, images, num_passes=max(1, _IMAGES_PER_VISIT // batch_size))
                    times = seconds.setdefault((cell, batch_size), [])
                    if round_:  # the first is for warming up
                        times.append(taken)
    return {
        f"{cell}/images_per_second_batch{batch_size}": batch_size / statistics.median(times)
        for (cell, batch_size), times in seconds.items()
    }


def _seconds_per_pass(classifier: nn.Module, images: Tensor, *, num_passes: int) -> float:
    started = time.perf_counter()
    for _ in range(num_passes):
        classifier(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return (time.perf_counter() - started) / num_passes


def _fits(classifier: nn.Module, images: Tensor) -> bool:
    """Whether a pass over `images` is safe: it holds about three of the largest layer's outputs at once."""
    largest = 0

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [module.register_forward_hook(note) for module in classifier.modules()]
    classifier(images[:1])
    for hook in hooks:
        hook.remove()
    if images.device.type == "cuda":
        free = torch.cuda.mem_get_info(images.device)[0]
    else:
        free = psutil.virtual_memory().available
    return 3 * largest * len(images) <= _MEMORY_SHARE * free
