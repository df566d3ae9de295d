"""Export of trained classifiers as ONNX files whose outputs have been compared with PyTorch's."""

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
from seesay.classification.quantize import QuantizationLoss, in_unit_range, quantization_loss, quantize
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
"""The largest allowed difference of a logit.

A different order of summation gives differences of 1e-6 to 1e-4, a wrong graph far larger ones.
"""

BATCH_SIZE = 256

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "images", "logits"

OPSET = 18
"""Of 2022: old enough for any runtime in use, and the oldest that torch's exporter writes."""


@dataclass(frozen=True)
class OutputComparison:
    """A comparison of the exported file's logits with PyTorch's, image by image."""

    num_images: int
    num_same_class: int
    max_difference: float


@dataclass(frozen=True)
class ExportResult:
    """A written file, and the comparison made before."""

    path: Path
    num_bytes: int
    dataset: str
    image_size: int
    num_classes: int
    comparison: OutputComparison
    loss: QuantizationLoss | None


class OnnxFile:
    """The content of an ONNX file, run by onnxruntime on the CPU."""

    def __init__(self, content: bytes, *, num_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, in their order."""
        return list(self._session.run(self.outputs, dict(inputs)))


class OnnxClassifier(OnnxFile):
    """A classifier's ONNX file."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits (n, num_classes) for float32 images (n, 3, S, S), RGB in [0, 1]."""
        return self.run({INPUT: images})[0]


def export_classifier(root: Path, cell: str, *, out: Path | None = None, int8: bool = False) -> ExportResult:
    """Write the first network of a classifier experiment to `out` (None: `.work/export/<cell>.onnx`).

    The file is written only if every test image of its dataset gets the same class as from PyTorch, and logits within
    `TOLERANCE`. With `int8` it is then quantized (None: `.work/export/<cell>.int8.onnx`), and what that costs on test
    images is measured. Raises `InputError` for an unknown experiment, a missing checkpoint or package, and differing
    outputs.
    """
    cells = read_section(root, "classifiers", dict[str, Any])
    if cell not in cells:
        raise InputError(f"{root / PARAMS_FILE}: classifiers: got {cell!r}: expected one of {', '.join(cells)}")
    require_packages()
    paths, runtime = Paths(root), read_section(root, "runtime", Runtime)
    path = paths.scratch / "export" / f"{cell}{'.int8' * int8}.onnx" if out is None else root / out
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file name, such as {path / f'{cell}.onnx'}")
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
    comparison = compare_outputs(exported, classifier, np.asarray(images.test.images), checkpoint.normalisation)
    if comparison.num_same_class < comparison.num_images or not comparison.max_difference <= TOLERANCE:
        raise InputError(
            f"{cell}: the exported network's predictions differ from PyTorch's: the same class for "
            f"{comparison.num_same_class} of {comparison.num_images} test images of {images.name}; logits differ by "
            f"{comparison.max_difference:.2g} at most (allowed: {TOLERANCE:g}); nothing was written"
        )
    loss = None
    if int8:
        content = quantize(content, images.train, name=INPUT)
        quantized = OnnxClassifier(content, num_threads=compute.num_threads)
        test = np.asarray(images.test.images)
        loss = quantization_loss(_logits(exported, test), _logits(quantized, test), np.asarray(images.test.labels))
    write_bytes(path, content)
    return ExportResult(path, len(content), images.name, images.image_size, images.num_classes, comparison, loss)


def compare_outputs(
    exported: OnnxClassifier, classifier: nn.Module, images: np.ndarray, normalisation: dict[str, list[float]]
) -> OutputComparison:
    """Compare both networks' logits on `images`, uint8 (n, S, S, 3), and on the first image in a batch of its own.

    PyTorch gets its images as in training and evaluation. A NaN counts as a difference.
    """
    batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
    actual = _logits(exported, images)
    with torch.inference_mode():
        expected = np.concatenate(
            [classifier(normalise(torch.from_numpy(batch.copy()), **normalisation)).numpy() for batch in batches]
        )
    alone = exported(in_unit_range(images[:1]))
    differences = np.concatenate([np.abs(actual - expected), np.abs(alone - expected[:1])])
    num_same = int((actual.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return OutputComparison(len(images), num_same, float(differences.max()))


def _logits(exported: OnnxClassifier, images: np.ndarray) -> np.ndarray:
    """Return the logits (n, num_classes) of uint8 images (n, S, S, 3)."""
    starts = range(0, len(images), BATCH_SIZE)
    return np.concatenate([exported(in_unit_range(images[start : start + BATCH_SIZE])) for start in starts])


def require_packages() -> None:
    """Raise `InputError` naming the packages that are needed for export and not installed."""
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
    """Convert `classifier`, on the CPU and in evaluation mode, to the content of an ONNX file.

    Equal inputs give equal bytes. The file's input `images` is float32 (batch, 3, image_size, image_size), RGB in
    [0, 1], of any batch size. The normalisation by `mean` and `std` of each channel, for values in [0, 1], is part of
    the graph. The output `logits` is float32 (batch, num_classes). `metadata` is stored unchanged. Raises `InputError`
    where a package is missing.
    """
    network = _OnUnitRange(classifier.cpu().eval(), mean, std).eval()
    example = torch.zeros(2, 3, image_size, image_size)  # a batch size of 1 would be exported as constant
    return export_graph(
        network, (example,), inputs=[INPUT], outputs=[OUTPUT], dynamic=({0: "batch"},), metadata=metadata
    )


def export_graph(
    network: nn.Module,
    example: tuple[Any, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: tuple[Any, ...],
    metadata: Mapping[str, str],
) -> bytes:
    """Convert `network` in evaluation mode, called with `example`, tensors or tuples of them, to an ONNX file.

    `dynamic` has a mapping for each tensor of `example`, in its place: from dimensions of any size to their names.
    Those with the same name have the same size. Equal networks give equal bytes. Raises `InputError` where a package is
    missing.
    """
    require_packages()
    sizes: dict[str, Any] = {}

    def named(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(map(named, part))
        return {axis: sizes.setdefault(name, torch.export.Dim(name)) for axis, name in part.items()}

    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecations inside torch
            program = torch.onnx.export(
                network,
                example,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=named(dynamic),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    assert program is not None
    model: Any = program.model_proto
    _remove_source_locations(model)
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])
    return bytes(model.SerializeToString(deterministic=True))


def _describe(cell: str, checkpoint: Checkpoint, images: PackedImages) -> dict[str, str]:
    """Return the file's metadata; `classes` are in the order of the logits."""
    return {
        "classes": json.dumps([one.label for one in images.classes], ensure_ascii=False),
        "wnids": json.dumps([one.wnid for one in images.classes]),
        "seesay.cell": cell,
        "seesay.dataset": checkpoint.dataset,
        "seesay.dataset_digest": checkpoint.dataset_digest,
        "seesay.architecture": json.dumps(checkpoint.architecture, sort_keys=True),
    }


class _OnUnitRange(nn.Module):
    """A classifier with its normalisation, for images in [0, 1]."""

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


def _remove_source_locations(model: Any) -> None:
    """Remove torch's notes on each node: source lines with local paths."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
