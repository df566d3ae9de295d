"""The benchmark of feature extraction: that variants take turns, and what it reports."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from seesay.captioning.features.encoders import load_feature_encoder

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("feature_extraction")


def test_variants_take_turns_and_their_errors_are_shares_of_the_spread(benchmark):
    turns = []

    def variant(name, features):
        def extract(_images):
            turns.append(name)
            return np.array(features, dtype=np.float32)

        return extract

    # Around their mean the exact features lie 1 away each: a norm of sqrt(2); one is off by 1: 1 / sqrt(2).
    found = {
        benchmark.OURS: variant("ours", [[0.0], [3.0]]),
        benchmark.USUAL: variant("usual", [[0.0], [2.0]]),
    }
    result = benchmark.compare(found, [None, None], rounds=2)
    assert turns == ["ours", "usual"] * 3  # the first of them unmeasured
    assert result[benchmark.OURS]["error"] == pytest.approx(1 / 2**0.5)
    assert result[benchmark.USUAL]["error"] == 0.0
    assert result[benchmark.USUAL]["times_plain_loop"] == 1.0
    assert len(result[benchmark.OURS]["times_plain_loop_rounds"]) == 2
    assert benchmark.OURS in benchmark.describe(result)


def test_images_decoded_by_a_thread_come_in_order(benchmark):
    images = [Image.new("RGB", (32, 32), (level, 0, 0)) for level in range(20)]
    encoder = load_feature_encoder("small_cnn", None, grid_size=None)
    shown = benchmark.DecodedByThread(images, encoder, image_size=32, resize_size=32, ahead=3)
    assert [shown[row].getpixel((0, 0))[0] for row in range(20)] == list(range(20))


def test_only_the_unfused_encoder_keeps_batch_norms(benchmark, tmp_path):
    name, weights = "mobilenetv2_050", tmp_path / "weights.pth"
    torch.save(timm.create_model(name).state_dict(), weights)
    fused, unfused = (
        [isinstance(module, nn.BatchNorm2d) for module in load(name, weights, grid_size=None).modules()]
        for load in (load_feature_encoder, benchmark.unfused_encoder)
    )
    assert not any(fused)
    assert any(unfused)
