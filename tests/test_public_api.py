"""`import seesay`: its names, which are imported when they are first used."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import seesay

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", seesay.__all__)
def test_a_public_name_is_its_modules_own(name: str) -> None:
    assert getattr(seesay, name) is getattr(importlib.import_module(seesay._MODULE_OF[name]), name)
    assert name in dir(seesay)
    assert name in (ROOT / "docs/python.md").read_text(encoding="utf-8")


def test_type_checkers_see_the_same_names_as_python() -> None:
    tree = ast.parse((ROOT / "src/seesay/__init__.py").read_text(encoding="utf-8"))
    (checking,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module for node in checking.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed == seesay._MODULE_OF
    assert set(seesay.__all__) == typed.keys()


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    """Each stage and each `seesay --help` imports it."""
    code = "import sys; before = set(sys.modules); import seesay; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "seesay" in imported
    assert [name for name in imported if name.startswith("seesay.")] == []
    assert not {"numpy", "pandas", "torch", "torchmetrics", "mlflow"} & set(imported)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"module 'seesay' has no attribute 'reslts'"):
        seesay.reslts  # noqa: B018


@pytest.mark.filterwarnings("ignore:.*left out")
def test_the_code_in_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "metrics"):
        (tmp_path / name).symlink_to(ROOT / name)
    annotations = [{"id": n, "image_id": n, "caption": caption} for n, caption in enumerate(["a dog", "two cats"])]
    references = {"images": [{"id": 0}, {"id": 1}], "annotations": annotations}
    (tmp_path / "captions.json").write_text(json.dumps(references))
    (tmp_path / "results.json").write_text(json.dumps(annotations))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no Java
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.M | re.S)
    found: list[dict[str, Any]] = [{} for _ in blocks]
    for code, names in zip(blocks, found, strict=True):
        exec(code, names)
    assert (tmp_path / "results.csv").read_text().startswith("section,name,params.")
    assert found[1]["scores"].eval["Bleu_1"] == pytest.approx(1.0)
    assert set(found[2]["scores"]) == {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"}
