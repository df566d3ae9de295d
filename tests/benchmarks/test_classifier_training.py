"""The benchmark of the data paths: that it runs, that both paths show the same images, what it reports."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from seesay.compute import Compute, configure
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import PackedImages, read_packed_images, write_packed_images
from seesay.images.prepare import prepare_images
from seesay.params.datasets import ImageDataset, ImageLimits, ScenesImageSource
from seesay.params.training import Augmentation, Runtime
from seesay.sources.fetch import fetch_image_source

CPU = Compute(torch.device("cpu"), None, num_threads=1, deterministic=True, compile=False)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CELL = """
    dataset: scenes10
    architecture: {name: plain_cnn, widths: [2, 4]}
    start: scratch
    augmentation: {flip: true, crop_padding: 2, cutout: 0.3}
    training:
      epochs: 2
      batch_size: 16
      optimizer: {name: sgd, learning_rate: 0.05, momentum: 0.9, nesterov: true, weight_decay: 5.0e-4}
      schedule: {decay: linear, warmup_fraction: 0.2}
      moving_average: {decay: 0.9, every_steps: 1}
      max_gradient_norm: 1.0
"""
PARAMS = f"""
seed: 0
runtime: {{device: cpu, precision: float32, num_threads: 1, deterministic: true, compile: false}}
classifiers:
  small:{CELL}
  jittered:{CELL.replace("cutout: 0.3", "cutout: 0.3, trivial_augment: true")}
"""


@pytest.fixture(autouse=True)
def _settings_of_torch():
    """Puts torch's process-wide settings back."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawings to learn from, fetched and prepared, and params."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "params.yaml").write_text(PARAMS)
    paths = Paths(root)
    source = ScenesImageSource(kind="scenes", seed=0, num_train_per_class=5, num_val_per_class=1)
    fetch_image_source(source, paths.raw_images("scenes"), mirror=None, scratch=root)
    settings = ImageDataset(
        source="scenes",
        subset="scenes10",
        image_size=64,
        num_train_per_class=4,
        num_val_per_class=1,
        split_seed=0,
        limits=ImageLimits(max_undecodable=0, max_left_out_per_class=0),
    )
    packed, _ = prepare_images(settings, paths.raw_images("scenes"), name="scenes10", scratch=root / "scratch")
    write_packed_images(paths.images("scenes10"), packed)
    return root


@pytest.fixture
def images(workspace: Path) -> PackedImages:
    return read_packed_images(Paths(workspace).images("scenes10"))


@pytest.fixture
def compute() -> Compute:
    return configure(Runtime(device="cpu", precision="float32", num_threads=1, deterministic=True, compile=False))


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("classifier_training")


@pytest.fixture
def image_folder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("image_folder")


def run(benchmark: ModuleType, workspace: Path, *arguments: str) -> dict:
    benchmark.main(workspace, ["--cells", "small", "--num-workers", "1", "--out", "out.json", *arguments])
    return json.loads((workspace / "out.json").read_text())


def test_the_report_has_both_paths_and_their_ratio(benchmark, workspace, capsys):
    report = run(benchmark, workspace, "--rounds", "1", "--batches", "2")
    assert set(report) == {"options", "environment", "results"}
    assert report["environment"]["precision"] == "float32"
    (result,) = report["results"]
    assert (result["cell"], result["dataset"], result["num_train"]) == ("small", "scenes10", 40)
    assert set(result["paths"]) == {"seesay", "ImageFolder", "one batch"}
    for path in result["paths"].values():
        assert set(path) == {"images_per_second", "waiting_share", "core_milliseconds_per_image", "lost", "rounds"}
        assert len(path["rounds"]) == 1
        assert 0.0 <= path["waiting_share"] <= 1.0
    ours, usual = (result["paths"][name]["images_per_second"] for name in ("seesay", "ImageFolder"))
    assert result["ratio"] == pytest.approx(ours / usual)
    assert "JPEG files: the archive's own files" in capsys.readouterr().out


def test_time_to_accuracy_stops_there_or_says_that_it_was_not_reached(benchmark, workspace):
    (result,) = run(benchmark, workspace, "--time-to-accuracy", "0.01")["results"]  # any guess is as good
    for path in result["paths"].values():
        assert path["epochs"] <= 2
        assert (path["seconds"] is None) == (path["val/top1"] < 0.01)
    (result,) = run(benchmark, workspace, "--time-to-accuracy", "1.1", "--epochs", "1")["results"]
    assert set(result["paths"]) == {"seesay", "ImageFolder"}
    assert all(path["seconds"] is None and path["epochs"] == 1 for path in result["paths"].values())
    assert result["ratio"] is None


def test_without_augmentation_both_paths_give_the_same_pixels(image_folder, images, compute, workspace, tmp_path):
    files = image_folder.write_image_folder(tmp_path / "files", images, Paths(workspace).raw_images("scenes"))
    assert files == image_folder.FROM_ARCHIVE
    plain = Augmentation(flip=False, crop_padding=0, cutout=0.0)
    pixels, labels = usual_batch(image_folder, tmp_path / "files", images, plain, compute)
    load = load_images(images.train, mean=images.channel_mean, std=images.channel_std, compute=CPU)
    (ours, of_ours) = next(ordered_batches(load, batch_size=40))
    order = pixels.sum(dim=(1, 2, 3)).argsort()
    same = ours.sum(dim=(1, 2, 3)).argsort()
    assert torch.allclose(pixels[order], ours[same], atol=1e-5)
    assert torch.equal(labels[order], of_ours[same])


def test_the_usual_transforms_blank_a_square_of_the_same_side(image_folder, images, compute, tmp_path):
    files = image_folder.write_image_folder(tmp_path / "files", images, tmp_path / "no archive")
    assert files == image_folder.ENCODED_AGAIN
    cut = Augmentation(flip=True, crop_padding=6, cutout=0.3)
    pixels, _ = usual_batch(image_folder, tmp_path / "files", images, cut, compute)
    assert pixels.shape == (40, 3, 64, 64)
    blank = (pixels == 0.0).all(dim=1)
    assert blank.sum(dim=(1, 2)).tolist() == [19 * 19] * 40  # 0.3 * 64 = 19.2
    assert len(np.unique([one.nonzero()[0].tolist() for one in blank], axis=0)) > 20


def test_what_the_usual_path_has_no_counterpart_for_is_refused(benchmark, workspace):
    with pytest.raises(InputError, match=r"classifiers\.jittered\.augmentation: got trivial_augment"):
        benchmark.main(workspace, ["--cells", "jittered"])


def usual_batch(image_folder, folder, images, augmentation, compute):
    """All training images once, by the usual path."""
    transforms = image_folder.usual_transforms(
        augmentation, image_size=images.image_size, mean=images.channel_mean, std=images.channel_std
    )
    path = image_folder.UsualPath(folder, transforms, batch_size=40, num_workers=0, seed=0, compute=compute)
    return next(path.batches(1))
