"""The documents say what is so."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from seesay.report.readme import readme_is_current

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_shows_the_committed_results() -> None:
    assert readme_is_current(ROOT / "README.md", ROOT / "reports/results.md"), "run `seesay readme`"


def test_the_architecture_shows_dvcs_own_graph() -> None:
    spec = importlib.util.spec_from_file_location("dag", ROOT / "tests/pipeline/dag.py")
    assert spec is not None
    assert spec.loader is not None
    dag = importlib.util.module_from_spec(spec)
    sys.modules["dag"] = dag
    spec.loader.exec_module(dag)
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert text == dag.with_dag(text, dag.print_dag()), "run `make dag`"


def test_every_make_target_that_the_documents_name_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|\$ |=\S+ )make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8")))
        assert named <= targets, name


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_files_that_the_documents_name_are_there(document: str) -> None:
    made = ("reports/", "metrics/", "data/", "runs/", "mlruns/", ".work/", ".dvc/")
    for name in re.findall(
        r"`((?:src|stages|tests|params|benchmarks)/[^`*<\[]+)`", (ROOT / document).read_text(encoding="utf-8")
    ):
        assert name.startswith(made) or (ROOT / name).exists(), f"{document}: {name}"


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith(("#", "set ", "cd "))] == ["make test"]


def test_the_lock_file_has_hashes_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    pins = re.findall(r"^[a-z0-9][\w.\-\[\]]*==", lock, re.MULTILINE)
    assert len(pins) > 100
    assert lock.count("--hash=sha256:") >= len(pins)


def test_no_test_name_is_longer_than_70_characters() -> None:
    """What a name that long says beyond the behaviour belongs in a docstring."""
    names = [
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) > 70] == []
