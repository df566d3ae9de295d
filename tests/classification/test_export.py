"""Exporting a classifier: what is written, what is refused, and that nothing unchecked is left."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from seesay.classification import export
from seesay.classification.export import OnnxClassifier, OutputComparison, compare_outputs, export_classifier
from seesay.classification.networks.registry import build_classifier
from seesay.cli import main
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.packed import (
    ImageClass,
    ImageSplit,
    PackedImages,
    dataset_digest,
    split_digest,
    write_packed_images,
)
from seesay.params.classification import Architecture
from seesay.sources.provenance import SourceNote
from seesay.training.checkpoint import Checkpoint, describe_architecture, save_checkpoint

SIZE = 16
CLASSES = (ImageClass("n1", "fly"), ImageClass("n2", "crème brûlée"), ImageClass("n3", "bee"))
ARCHITECTURE = Architecture(name="mlp", hidden_sizes=[8], dropout=0.0)
PARAMS = """
runtime: {device: auto, precision: auto, num_threads: 1, deterministic: true, compile: true}
classifiers: {small: {}, untrained: {}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with one dataset and one trained classifier."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    paths, random = Paths(tmp_path), np.random.default_rng(0)
    split = ImageSplit(
        random.integers(0, 256, (9, SIZE, SIZE, 3)).astype(np.uint8), np.arange(9) % 3, tuple(map(str, range(9)))
    )
    digest = dataset_digest(CLASSES, dict.fromkeys(("train", "val", "test"), split_digest(split)))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    images = PackedImages(split, split, split, CLASSES, SIZE, mean, std, "tiny", digest, SourceNote("x", ()))
    write_packed_images(paths.images("tiny"), images)
    classifier = build_classifier(ARCHITECTURE, num_classes=3, image_size=SIZE, seed=0, key="x")
    checkpoint = Checkpoint(
        kind="classifier",
        dataset="tiny",
        dataset_digest=digest,
        classes=tuple(one.wnid for one in CLASSES),
        vocabulary_digest="",
        architecture=describe_architecture(ARCHITECTURE),
        sizes={"num_classes": 3, "image_size": SIZE},
        settings={},
        normalisation={"mean": list(mean), "std": list(std)},
        state_dict=classifier.state_dict(),
        metrics={},
    )
    save_checkpoint(paths.classifier("small"), checkpoint)
    return tmp_path


def test_the_command_writes_a_checked_file_with_the_classes_in_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "dvc.yaml").touch()  # as in a repository
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as ended:
        main(["export", "small", "--out", "there/small.onnx"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "small: there/small.onnx" in said
    assert "all 9 test images of tiny get the same class as from PyTorch" in said
    content = (root / "there/small.onnx").read_bytes()
    metadata = OnnxClassifier(content, num_threads=1).metadata
    assert json.loads(metadata["classes"]) == ["fly", "crème brûlée", "bee"]
    assert json.loads(metadata["wnids"]) == ["n1", "n2", "n3"]
    assert metadata["seesay.cell"] == "small"
    assert str(root).encode() not in content


def test_a_file_that_answers_otherwise_is_not_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = export.export_onnx
    monkeypatch.setattr(export, "export_onnx", lambda *rest, **named: real(*rest, **{**named, "mean": (0.0, 0.0, 0.0)}))
    with pytest.raises(
        InputError, match=r"small: the exported network's predictions differ from PyTorch's: .*of 9 test"
    ):
        export_classifier(root, "small")
    assert not (root / ".work").exists()


@pytest.mark.parametrize(
    ("cell", "out", "says"),
    [
        ("gone", None, r"params\.yaml: classifiers: got 'gone': expected one of small, untrained"),
        ("untrained", None, r"0\.pt: no such file; train it first: seesay repro train_classifier@untrained"),
        ("small", ".", r"is a folder; expected a file name"),
    ],
)
def test_what_cannot_be_exported_is_said_before_any_work(
    root: Path, monkeypatch: pytest.MonkeyPatch, cell: str, out: str | None, says: str
) -> None:
    monkeypatch.setattr(export, "export_onnx", pytest.fail)
    with pytest.raises(InputError, match=says):
        export_classifier(root, cell, out=None if out is None else Path(out))


class Answers:
    """Gives each image (n, 3, 1, 1) its red value and a third as logits, with an error; NaN for one alone if told."""

    def __init__(self, error: float, alone_is_nan: bool = False) -> None:
        self.error, self.alone_is_nan = error, alone_is_nan

    def __call__(self, images: np.ndarray) -> np.ndarray:
        red = images[:, 0].reshape(-1, 1)
        if self.alone_is_nan and len(images) == 1:
            return np.full((1, 2), np.nan, dtype=np.float32)
        return np.concatenate([red + self.error, np.full_like(red, 1 / 3)], axis=1)


def test_agreement_counts_classes_and_finds_the_largest_difference() -> None:
    """Red is 0, 0.4 and 1: with 0.1 less, the second falls below a third, the other two stay on their side."""

    def classifier(images: torch.Tensor) -> torch.Tensor:
        red = images[:, 0].reshape(-1, 1)
        return torch.cat([red, torch.full_like(red, 1 / 3)], dim=1)

    images = np.zeros((3, 1, 1, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = (0, 102, 255)
    as_it_is = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    assert compare_outputs(Answers(0.0), classifier, images, as_it_is) == OutputComparison(
        3, 3, pytest.approx(0, abs=1e-6)
    )
    assert compare_outputs(Answers(-0.1), classifier, images, as_it_is) == OutputComparison(
        3, 2, pytest.approx(0.1, abs=1e-6)
    )
    assert np.isnan(compare_outputs(Answers(0.0, alone_is_nan=True), classifier, images, as_it_is).max_difference)
