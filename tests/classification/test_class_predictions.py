import numpy as np
import pytest

from seesay.classification.predictions import (
    ClassPredictions,
    SplitPredictions,
    read_class_predictions,
    write_class_predictions,
)
from seesay.core.errors import InputError


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)

    def split(num_images):
        logits = generator.normal(size=(num_images, 3)).astype(np.float32)
        return SplitPredictions(logits, np.arange(num_images) % 3, ("cat", "Löwe", "dog, hound"))

    return ClassPredictions(val=split(4), test=split(6))


def test_what_is_written_is_read(predictions, tmp_path):
    write_class_predictions(tmp_path / "p.npz", predictions)
    read = read_class_predictions(tmp_path / "p.npz")
    for name in ("val", "test"):
        ours, theirs = getattr(predictions, name), getattr(read, name)
        assert theirs.class_labels == ours.class_labels
        assert theirs.logits.dtype == np.float32
        assert theirs.labels.dtype == np.int64
        assert np.array_equal(theirs.logits, ours.logits)
        assert np.array_equal(theirs.labels, ours.labels)


def test_equal_predictions_give_equal_bytes_at_any_time_of_day(predictions, tmp_path, monkeypatch):
    import time

    write_class_predictions(tmp_path / "one.npz", predictions)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2_000_000_000))
    write_class_predictions(tmp_path / "two.npz", predictions)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"hello"])
def test_another_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"p\.npz: not a readable \.npz archive"):
        read_class_predictions(tmp_path / "p.npz")


def test_a_truncated_file_and_one_without_its_arrays_are_refused(predictions, tmp_path):
    path = tmp_path / "p.npz"
    write_class_predictions(path, predictions)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"not a readable \.npz archive"):
        read_class_predictions(path)
    np.savez(path, other=np.zeros(1))
    with pytest.raises(InputError, match="not a file of class predictions"):
        read_class_predictions(path)
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        read_class_predictions(tmp_path / "none.npz")


def test_the_module_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, seesay.classification.predictions as _; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
