"""What all benchmarks have in common."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from seesay.core.errors import InputError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WRITING = sorted(path.stem for path in BENCHMARKS.glob("*.py") if '"--out"' in path.read_text(encoding="utf-8"))
POSITIONALS = {"ablation": ["small"], "caption_metrics": ["references.json", "results.json"]}


@pytest.mark.parametrize("name", WRITING)
def test_a_place_for_results_is_tried_before_anything_is_measured(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *POSITIONALS.get(name, []), "--out", "."])
    main = importlib.import_module(name).main
    with pytest.raises(InputError, match=r"^--out: .*: is a folder; expected a file$"):
        main(*[tmp_path for parameter in inspect.signature(main).parameters if parameter == "root"])
