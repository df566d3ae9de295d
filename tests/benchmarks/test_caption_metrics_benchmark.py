"""The benchmark of the caption metrics: that it runs, with and without the other side, and what it reports."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("caption_metrics")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    texts = ["A dog runs on the beach.", "Two cats", "the man's red bike", "a bird, flying"]
    references = {
        "images": [{"id": number} for number in range(4)],
        "annotations": [{"image_id": n, "caption": text} for n, text in enumerate(texts)],
    }
    results = [{"image_id": number, "caption": text} for number, text in enumerate(texts[1:] + texts[:1])]
    (tmp_path / "refs.json").write_text(json.dumps(references))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return [str(tmp_path / "refs.json"), str(tmp_path / "results.json")]


def test_without_the_other_side_it_says_how_to_get_it(
    benchmark: ModuleType, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "_have_theirs", lambda: False)
    benchmark.main(Path(), [*files, "--rounds", "1"])
    assert "pip install pycocoevalcap" in capsys.readouterr().out


def test_both_sides_give_the_same(benchmark: ModuleType, files: list[str], tmp_path: Path) -> None:
    if not benchmark._have_theirs():
        pytest.skip("no Java, or no pycocoevalcap")
    benchmark.main(tmp_path, [*files, "--rounds", "2", "--out", "speed.json"])
    found = json.loads((tmp_path / "speed.json").read_text())
    assert max(found["differences"].values()) <= benchmark.TOLERANCE
    assert len(found["ratios"]) == 2


def test_sides_that_differ_are_said_to(benchmark: ModuleType) -> None:
    seconds = {name: dict.fromkeys(("total", *benchmark.STEPS), 1.0) for name in (benchmark.OURS, benchmark.THEIRS)}
    found = {"num_images": 1, "num_captions": 2, "seconds": seconds, "ratio": 2.0, "ratios": [2.0]}
    assert "NOT EQUAL" in benchmark.describe({**found, "differences": {"images": 1e-6, "corpus": 0.0}})
    assert "NOT EQUAL" not in benchmark.describe({**found, "differences": {"images": 1e-12, "corpus": 0.0}})
