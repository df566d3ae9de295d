"""A classifier's predictions for every image of val and test, and their file format."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seesay.arrays import read_arrays
from seesay.core.errors import InputError
from seesay.core.files import write_bytes


@dataclass(frozen=True)
class SplitPredictions:
    """Predictions for n images in the split's order.

    `logits` are float32 (n, num_classes), `labels` are the true classes, int64 (n,), and `class_labels` the classes'
    names.
    """

    logits: np.ndarray
    labels: np.ndarray
    class_labels: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray:
        """The class with the largest logit, int64 (n,); of equal logits the first."""
        classes: np.ndarray = np.argmax(self.logits, axis=1)
        return classes

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 (n, num_classes)."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True)
class ClassPredictions:
    val: SplitPredictions
    test: SplitPredictions


def write_class_predictions(path: Path, predictions: ClassPredictions) -> None:
    """Write an `.npz` file atomically; equal predictions give equal bytes.

    `np.savez` is not used because it stores the time of day in the archive.
    """
    arrays = {
        "val_logits": predictions.val.logits,
        "val_labels": predictions.val.labels,
        "test_logits": predictions.test.logits,
        "test_labels": predictions.test.labels,
        "class_labels": np.array(predictions.test.class_labels, dtype=np.str_),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), member.getvalue())
    write_bytes(path, buffer.getvalue())


def read_class_predictions(path: Path) -> ClassPredictions:
    """Read a file of class predictions; raise `InputError` for one that is missing, damaged or of another kind."""
    arrays = read_arrays(path)
    try:
        class_labels = tuple(arrays["class_labels"].tolist())
        val = SplitPredictions(arrays["val_logits"], arrays["val_labels"], class_labels)
        test = SplitPredictions(arrays["test_logits"], arrays["test_labels"], class_labels)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of class predictions ({error})") from None
    return ClassPredictions(val, test)
