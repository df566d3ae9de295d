"""The benchmark of servers: that it runs, and that both servers answer alike."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from tests.serving.conftest import trained  # noqa: F401  # a fixture

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_both_servers_are_measured_and_answer_alike(trained, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("serving")
    model = trained / "models/classifiers/resnet9"
    benchmark.main(tmp_path, f"--model {model} --clients 1 3 --requests 6 --rounds 1 --out found.json".split())
    alone, together = json.loads((tmp_path / "found.json").read_text())["results"]
    for result, clients in ((alone, 1), (together, 3)):
        assert (result["clients"], result["same_answers"]) == (clients, 1.0)
        assert set(result["servers"]) == {"seesay serve", "mlflow models serve"}
        assert all(value > 0 for numbers in result["servers"].values() for value in numbers.values())
    assert "3 clients" in capsys.readouterr().out
