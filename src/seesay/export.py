"""How a trained classifier leaves the project: as an ONNX file whose answers have been compared with ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seesay.compute import configure
from seesay.data.augmentation import normalise
from seesay.data.packed_images import PackedImages, read_packed_images
from seesay.errors import InputError
from seesay.files import file_digest, write_bytes
from seesay.models.checkpoint import Checkpoint, load_checkpoint
from seesay.models.classifiers import restore_classifier
from seesay.models.onnx_export import OnnxClassifier, export_onnx, require_packages
from seesay.params.reading import PARAMS_FILE, read_section
from seesay.params.training import Runtime
from seesay.paths import Paths

TOLERANCE = 1e-3
"""The largest difference of a logit. Sums in another order differ by 1e-6 to 1e-4; a wrong graph by far more."""

BATCH_SIZE = 256


@dataclass(frozen=True)
class Agreement:
    """How the exported file's logits compare with PyTorch's, image by image."""

    num_images: int
    num_same_class: int
    max_difference: float


@dataclass(frozen=True)
class Exported:
    """A file that has been written, and what was checked before."""

    path: Path
    num_bytes: int
    dataset: str
    image_size: int
    num_classes: int
    agreement: Agreement


def export_classifier(root: Path, cell: str, *, out: Path | None = None) -> Exported:
    """Writes the first network of a classifier cell to `out` (None: `.work/export/<cell>.onnx`).

    It is written only after it has given every test image of its dataset the same class as PyTorch and logits within
    `TOLERANCE`. Raises `InputError` for an unknown cell, a missing checkpoint or package, and where the answers differ.
    """
    cells = read_section(root, "classifiers", dict[str, Any])
    if cell not in cells:
        raise InputError(f"{root / PARAMS_FILE}: classifiers: no {cell!r}; there is: {', '.join(cells)}")
    require_packages()
    paths, runtime = Paths(root), read_section(root, "runtime", Runtime)
    path = paths.scratch / "export" / f"{cell}.onnx" if out is None else root / out
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected the name of a file to write, such as {path / f'{cell}.onnx'}")
    weights = paths.classifier(cell)
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; train it first: seesay repro train_classifier@{cell}")
    compute = configure(runtime.in_float32().model_copy(update={"device": "cpu"}))
    checkpoint = load_checkpoint(weights, kind="classifier")
    images = read_packed_images(paths.images(checkpoint.dataset))
    checkpoint.require_classes(images.classes)
    classifier = restore_classifier(checkpoint)
    content = export_onnx(
        classifier,
        image_size=images.image_size,
        mean=checkpoint.normalisation["mean"],
        std=checkpoint.normalisation["std"],
        metadata=_describe(cell, checkpoint, images) | {"seesay.weights_sha256": file_digest(weights)},
    )
    exported = OnnxClassifier(content, num_threads=compute.num_threads)
    agreement = compare(exported, classifier, np.asarray(images.test.images), checkpoint.normalisation)
    if agreement.num_same_class < agreement.num_images or not agreement.max_difference <= TOLERANCE:
        raise InputError(
            f"{cell}: the exported network does not answer as PyTorch does: the same class for "
            f"{agreement.num_same_class} of {agreement.num_images} test images of {images.name}; logits differ by "
            f"{agreement.max_difference:.2g} at most (allowed: {TOLERANCE:g}); nothing was written"
        )
    write_bytes(path, content)
    return Exported(path, len(content), images.name, images.image_size, images.num_classes, agreement)


def compare(
    exported: OnnxClassifier, classifier: nn.Module, images: np.ndarray, normalisation: dict[str, list[float]]
) -> Agreement:
    """Both networks' logits on `images`, uint8 (n, S, S, 3); the exported one's also on the first image alone.

    PyTorch's come the way training and evaluation get theirs. A NaN is a difference.
    """
    batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
    found = np.concatenate([exported(_in_unit_range(batch)) for batch in batches])
    with torch.inference_mode():
        expected = np.concatenate(
            [classifier(normalise(torch.from_numpy(batch.copy()), **normalisation)).numpy() for batch in batches]
        )
    alone = exported(_in_unit_range(images[:1]))
    differences = np.concatenate([np.abs(found - expected), np.abs(alone - expected[:1])])
    num_same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return Agreement(len(images), num_same, float(differences.max()))


def _in_unit_range(images: np.ndarray) -> np.ndarray:
    """uint8 (n, S, S, 3) to what exported networks take: float32 (n, 3, S, S) in [0, 1]."""
    channels_first: np.ndarray = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    return channels_first / np.float32(255)


def _describe(cell: str, checkpoint: Checkpoint, images: PackedImages) -> dict[str, str]:
    """What the file says of itself; `classes` are in the order of the logits."""
    return {
        "classes": json.dumps([one.label for one in images.classes], ensure_ascii=False),
        "wnids": json.dumps([one.wnid for one in images.classes]),
        "seesay.cell": cell,
        "seesay.dataset": checkpoint.dataset,
        "seesay.dataset_digest": checkpoint.dataset_digest,
        "seesay.architecture": json.dumps(checkpoint.architecture, sort_keys=True),
    }
