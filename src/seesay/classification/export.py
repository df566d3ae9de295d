"""How a trained classifier leaves the project: as an ONNX file whose answers have been compared with ours."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seesay.classification.networks.registry import restore_classifier
from seesay.compute import configure
from seesay.core.errors import InputError
from seesay.core.files import file_digest, write_bytes
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_section
from seesay.images.augment.pipeline import normalise
from seesay.images.packed import PackedImages, read_packed_images
from seesay.params.training import Runtime
from seesay.training.checkpoint import Checkpoint, load_checkpoint

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


PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "images", "logits"

OPSET = 18
"""Of 2022: old enough for any runtime in use, new enough for torch's exporter, which writes no older one."""


def require_packages() -> None:
    """Raises `InputError` naming the packages that exporting needs and this environment lacks."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f"export to ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}")


def export_onnx(
    classifier: nn.Module,
    *,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    metadata: Mapping[str, str],
) -> bytes:
    """The content of an ONNX file of `classifier`, moved to the CPU and in evaluation mode; equal input, equal bytes.

    Its input `images` is float32 (batch, 3, image_size, image_size), RGB in [0, 1], of any batch size; `mean` and `std`
    of each channel, of values in [0, 1], are part of the graph. Its output `logits` is float32 (batch, num_classes).
    `metadata` goes into the file as it is. Raises `InputError` where a package is missing.
    """
    require_packages()
    network = _OnUnitRange(classifier.cpu().eval(), mean, std).eval()
    example = torch.zeros(2, 3, image_size, image_size)  # two: one would be taken for a size that never changes
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch's own parts that will change
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    assert program is not None
    model: Any = program.model_proto
    _forget_where_it_was_made(model)
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])
    return bytes(model.SerializeToString(deterministic=True))


class OnnxClassifier:
    """An ONNX file's content, run by onnxruntime on the CPU."""

    def __init__(self, content: bytes, *, num_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, num_classes) of float32 images (n, 3, S, S), RGB in [0, 1]."""
        logits: np.ndarray = self._session.run([OUTPUT], {INPUT: images})[0]
        return logits


class _OnUnitRange(nn.Module):
    """A classifier behind its normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier((images - self.mean) / self.std)
        return logits


def _forget_where_it_was_made(model: Any) -> None:
    """Takes out torch's notes on each node: lines of our code, with the paths of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
