"""What each classifier costs and how right it is, side by side with chance."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seesay.compute import Compute
from seesay.data.packed_images import ImagesManifest
from seesay.errors import InputError
from seesay.files import read_json
from seesay.models.checkpoint import load_checkpoint
from seesay.models.classifiers import restore_classifier
from seesay.params import results
from seesay.paths import Paths

COPIED = ("test/top1", "test/top5", "val/top1")
"""Metrics taken over from `evaluate_classifier`, where it has them."""


@dataclass(frozen=True)
class Comparison:
    """`rows`: a flat dictionary per classifier and per dataset's chance; `throughput`: `<cell>/images_per_second`."""

    rows: list[dict[str, Any]]
    throughput: dict[str, float]


def compare_classifiers(
    cells: Iterable[str],
    manifests: Mapping[str, ImagesManifest],
    paths: Paths,
    settings: results.Comparison,
    *,
    compute: Compute,
) -> Comparison:
    """Rows in the order of `cells`, then a chance row per dataset; throughput in float32 on `compute.device`.

    A row holds cell, dataset, architecture, num_classes, num_parameters, flops (floating-point operations, two per
    multiply-add, of one image's forward pass), accuracies and `substitutes` (names of the data's files that are not the
    official ones). `manifests` is by dataset. Raises `InputError` for a missing checkpoint or metrics file.
    """
    rows, classifiers = [], {}
    for cell in cells:
        checkpoint = load_checkpoint(paths.classifier(cell), kind="classifier")
        classifier = restore_classifier(checkpoint)
        manifest = manifests[checkpoint.dataset]
        checkpoint.require_classes(manifest.classes)
        row = {
            "cell": cell,
            "dataset": checkpoint.dataset,
            "architecture": checkpoint.architecture["name"],
            "num_classes": len(manifest.classes),
            "num_parameters": sum(parameter.numel() for parameter in classifier.parameters()),
            "flops": count_flops(classifier, image_size=manifest.image_size),
            "substitutes": list(manifest.source.substitutes),
        }
        rows.append({**row, **_accuracies(paths, cell)})
        classifiers[cell] = (classifier, manifest.image_size)
    used = {row["dataset"]: manifests[row["dataset"]] for row in rows}
    rows += [chance_row(manifest) for manifest in used.values()]
    return Comparison(rows, measure_throughput(classifiers, settings, compute=compute))


def chance_row(manifest: ImagesManifest) -> dict[str, Any]:
    """What guessing gets on classes of equal size."""
    num_classes = len(manifest.classes)
    row: dict[str, Any] = {"cell": "chance", "dataset": manifest.name, "architecture": "", "num_classes": num_classes}
    row |= {"num_parameters": 0, "flops": 0, "substitutes": list(manifest.source.substitutes)}
    row |= {"test/top1": 1 / num_classes, "val/top1": 1 / num_classes}
    return row | ({"test/top5": 5 / num_classes} if num_classes > 5 else {})


def count_flops(classifier: nn.Module, *, image_size: int) -> int:
    """Floating-point operations of one image's forward pass, two per multiply-add, as PyTorch counts them."""
    device = next(classifier.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(torch.zeros(1, 3, image_size, image_size, device=device))
    return int(counter.get_total_flops())


def measure_throughput(
    classifiers: Mapping[str, tuple[nn.Module, int]], settings: results.Comparison, *, compute: Compute
) -> dict[str, float]:
    """`<cell>/images_per_second`: the median over rounds; each round visits every classifier (and its image size).

    Taking turns spreads what else the machine does over all of them.
    """
    ready = {}
    for cell, (classifier, image_size) in classifiers.items():
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        images = torch.zeros(settings.throughput_batch_size, 3, image_size, image_size, device=compute.device)
        ready[cell] = (classifier.to(compute.device).to(memory_format=layout), images.to(memory_format=layout))
    seconds: dict[str, list[float]] = {cell: [] for cell in ready}
    with torch.inference_mode():
        for round_ in range(settings.throughput_repeats + 1):
            for cell, (classifier, images) in ready.items():
                started = time.perf_counter()
                classifier(images)
                if compute.device.type == "cuda":
                    torch.cuda.synchronize(compute.device)
                if round_:  # the first is for warming up
                    seconds[cell].append(time.perf_counter() - started)
    batch_size = settings.throughput_batch_size
    return {f"{cell}/images_per_second": batch_size / statistics.median(times) for cell, times in seconds.items()}


def _accuracies(paths: Paths, cell: str) -> dict[str, float]:
    path = paths.metrics("evaluate_classifier", cell)
    metrics = read_json(path)
    if not isinstance(metrics, dict) or "test/top1" not in metrics:
        raise InputError(f"{path}: expected metrics with test/top1")
    return {name: metrics[name] for name in COPIED if name in metrics}
