"""Static quantization of exported classifiers to 8-bit integers, with its loss of accuracy measured."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seesay.images.packed import ImageSplit

NUM_CALIBRATION_IMAGES = 256
"""Training images, evenly spaced, whose activations set the range of each layer's integers."""

CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class QuantizationLoss:
    """Accuracy on test images in float32 and in int8, and the share of them that get the same class in both."""

    float32: float
    int8: float
    same_class: float


def quantize(content: bytes, train: ImageSplit, *, name: str) -> bytes:
    """Return an ONNX classifier with weights and activations of 8 bits, calibrated on images of `train`.

    Weights have a scale per channel. `name` is the graph's input, float32 (n, 3, S, S) in [0, 1]. Equal inputs give
    equal bytes.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    step = max(1, len(train) // NUM_CALIBRATION_IMAGES)
    pixels = np.asarray(train.images[::step][:NUM_CALIBRATION_IMAGES])

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(pixels), CALIBRATION_BATCH)
            self._batches: Iterator[np.ndarray] = iter([pixels[start : start + CALIBRATION_BATCH] for start in starts])

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {name: in_unit_range(batch)}

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, prepared, after = (Path(folder) / f"{one}.onnx" for one in ("before", "prepared", "after"))
        before.write_bytes(content)
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it advises what has been done
        try:
            quant_pre_process(str(before), str(prepared))
            quantize_static(
                str(prepared),
                str(after),
                Batches(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
        model: Any = onnx.load(str(after))
    return bytes(model.SerializeToString(deterministic=True))


def quantization_loss(logits: np.ndarray, quantized: np.ndarray, labels: np.ndarray) -> QuantizationLoss:
    """Compare logits (n, classes) of both files for the same images, whose classes are `labels` (n,)."""
    ours, theirs = logits.argmax(axis=1), quantized.argmax(axis=1)
    means = [float(np.mean(correct)) for correct in (ours == labels, theirs == labels, ours == theirs)]
    return QuantizationLoss(*means)


def in_unit_range(images: np.ndarray) -> np.ndarray:
    """Convert uint8 (n, S, S, 3) to the input of exported networks: float32 (n, 3, S, S) in [0, 1]."""
    channels_first: np.ndarray = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    return channels_first / np.float32(255)
