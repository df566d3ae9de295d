"""The benchmark of decoding: that it runs, and that each way says the same."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _settings_of_torch():
    """Puts torch's process-wide settings back."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("decoding")
    monkeypatch.setattr(module, "SIZES", {**module.SIZES, "embedding_size": 8, "hidden_size": 8, "attention_size": 8})
    monkeypatch.setattr(module, "VOCABULARY_SIZE", 30)
    monkeypatch.setattr(module, "FEATURE_SIZE", 6)
    return module


def test_each_way_is_measured_and_says_the_same(benchmark, tmp_path, capsys):
    arguments = "--untrained lstm --images 8 --images-alone 3 --rounds 2 --beam-size 3 --out found.json"
    benchmark.main(tmp_path, arguments.split())
    (result,) = json.loads((tmp_path / "found.json").read_text())["results"]
    for method in ("greedy", "beam"):
        ways = result["methods"][method]["ways"]
        assert set(ways) == {"batched", "one by one", "textbook"}
        assert all(figures["same_captions"] == 1.0 for figures in ways.values())
        assert all(figures["images_per_second"] > 0 and len(figures["rounds"]) == 2 for figures in ways.values())
    assert "beam 3  batched" in capsys.readouterr().out
