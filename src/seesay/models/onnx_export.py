"""A classifier as an ONNX file that knows its own normalisation and classes, and how such a file is run."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seesay.errors import InputError

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
