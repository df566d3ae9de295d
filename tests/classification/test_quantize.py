"""Quantized classifiers: how much smaller they are, and what that costs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.classification.test_export import root  # noqa: F401  # a workspace with a trained classifier

from seesay.classification.export import OnnxClassifier, export_classifier
from seesay.classification.quantize import in_unit_range, quantization_loss
from seesay.images.packed import read_packed_images


def test_the_loss_counts_right_and_equal_classes():
    ours = np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # 0 0 1 1
    theirs = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0], [2.0, 1.0]])  # 0 1 1 0
    loss = quantization_loss(ours, theirs, np.array([0, 1, 1, 1]))
    assert (loss.float32, loss.int8, loss.same_class) == (0.75, 0.75, 0.5)


def test_a_quantized_classifier_is_smaller_and_close(root, tmp_path):  # noqa: F811
    plain = export_classifier(root, "small", out=tmp_path / "a.onnx")
    small = export_classifier(root, "small", out=tmp_path / "b.onnx", int8=True)
    assert plain.loss is None
    assert small.loss is not None
    assert small.num_bytes < plain.num_bytes
    images = read_packed_images(root / "data/images/tiny").test.images
    ours, theirs = (OnnxClassifier(one.path.read_bytes(), num_threads=1) for one in (plain, small))
    batch = in_unit_range(np.asarray(images))
    differences = np.abs(ours(batch) - theirs(batch))
    assert 0 < differences.max() < 0.2 * np.abs(ours(batch)).max()
    assert small.loss.same_class == pytest.approx(np.mean(ours(batch).argmax(1) == theirs(batch).argmax(1)))
    again = export_classifier(root, "small", out=tmp_path / "c.onnx", int8=True)
    assert again.path.read_bytes() == small.path.read_bytes()
