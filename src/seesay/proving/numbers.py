"""Numbers of a finished run: its curves, its metrics, and sums over the arrays that it wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seesay.core.files import read_json, read_text
from seesay.core.paths import Paths
from seesay.training.checkpoint import load_checkpoint, read_tensors

DIGITS = 7
"""The number of significant digits that are kept: those of float32."""

MOST_SUMS = 24
"""The largest number of sums of one run. Tensors of larger networks are grouped by module to keep the file small."""

COUNTS = ("best_epoch", "num_epochs")
"""The metrics that are integers."""

_KIND_OF = {"train_classifier": "classifier", "train_autoencoder": "autoencoder", "train_captioner": "captioner"}


def numbers_of(root: Path, stage: str, cell: str) -> dict[str, Any]:
    """Return the numbers of the run of `stage` for the experiment `cell` in the workspace `root`."""
    paths = Paths(root)
    found: dict[str, Any] = {"metrics": _metrics(read_json(paths.metrics(stage, cell)))}
    history = paths.table(stage, cell, "history")
    if history.exists():
        found["epochs"] = _epochs(read_text(history))
    return {**found, "sums": dict(_sums(paths, stage, cell))}


def _metrics(content: Mapping[str, float]) -> dict[str, int | float]:
    return {name: int(value) if name in COUNTS else rounded(value) for name, value in content.items()}


def _epochs(table: str) -> dict[str, list[float]]:
    """Return each column of a history except `step`."""
    rows = list(csv.DictReader(table.splitlines()))
    return {name: [rounded(float(row[name])) for row in rows] for name in rows[0] if name != "step"}


def _sums(paths: Paths, stage: str, cell: str) -> Iterable[tuple[str, list[int | float]]]:
    if stage == "extract_features":
        yield from _sums_of_features(paths.features(cell))
    elif stage == "finetune_encoder":
        content = read_tensors(paths.finetuned_encoder(cell) / "encoder.pt")
        yield from _sums_of_weights(content.get("state_dict", content))
    elif stage == "train_classifier":
        checkpoints = sorted(paths.classifiers_of(cell).glob("*.pt"))
        for path in checkpoints:
            prefix = f"{path.stem}: " if len(checkpoints) > 1 else ""
            weights = load_checkpoint(path, kind="classifier").state_dict
            yield from ((f"{prefix}{name}", sums) for name, sums in _sums_of_weights(weights))
    else:
        path = {"train_autoencoder": paths.autoencoder, "train_captioner": paths.captioner}[stage](cell)
        yield from _sums_of_weights(load_checkpoint(path, kind=_KIND_OF[stage]).state_dict)  # type: ignore[arg-type]


def _sums_of_features(folder: Path) -> Iterable[tuple[str, list[int | float]]]:
    """Yield sums of all pooled features, of each of their rows, of each grid place, and of the principal components."""
    pooled = np.load(folder / "pooled.npy")
    grid = np.load(folder / "grid.npy") if (folder / "grid.npy").exists() else None
    yield "pooled", sums_of([pooled])
    yield from ((f"pooled, image {row}", sums_of([values])) for row, values in enumerate(pooled))
    if grid is not None:
        yield from ((f"grid, place {place}", sums_of([grid[:, place]])) for place in range(grid.shape[1]))
    if (folder / "pca.npz").exists():
        with np.load(folder / "pca.npz") as arrays:
            yield from ((f"components, {name}", sums_of([arrays[name]])) for name in sorted(arrays.files))


def _sums_of_weights(weights: Mapping[str, Tensor]) -> Iterable[tuple[str, list[int | float]]]:
    """Yield sums of each tensor. Many tensors are grouped by the first parts of their names and by their kind."""
    depth = max(name.count(".") + 1 for name in weights)
    groups = _grouped(weights, depth)
    while len(groups) > MOST_SUMS and depth > 0:
        depth -= 1
        groups = _grouped(weights, depth)
    for name, tensors in groups.items():
        yield name, sums_of([tensor.to(torch.float64).numpy() for tensor in tensors])


def _grouped(weights: Mapping[str, Tensor], depth: int) -> dict[str, list[Tensor]]:
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        label = name if len(parts) <= depth and depth else ".".join([*parts[:depth], f"({_kind(name, tensor)})"])
        groups.setdefault(label, []).append(tensor)
    return groups


def _kind(name: str, tensor: Tensor) -> str:
    """Return a tensor's kind: counts, a running statistic, matrices or vectors.

    Kinds have values of very different sizes. In one sum, the large ones would hide changes of the small ones.
    """
    if not tensor.is_floating_point():
        return "counts"
    if "running_" in name:
        return name.rpartition(".")[2]
    return "matrices" if tensor.ndim >= 2 else "vectors"


def sums_of(arrays: Iterable[np.ndarray]) -> list[int | float]:
    """Return the number of values, their sum and their L2 norm."""
    values = np.concatenate([np.asarray(array, dtype=np.float64).ravel() for array in arrays])
    return [len(values), rounded(float(values.sum())), rounded(float(np.linalg.norm(values)))]


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
