"""dvc.yaml names everything a stage's result depends on."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("import_closure", Path(__file__).with_name("import_closure.py"))
assert spec is not None
assert spec.loader is not None
import_closure = importlib.util.module_from_spec(spec)
sys.modules["import_closure"] = import_closure
spec.loader.exec_module(import_closure)

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_depends_on_exactly_the_modules_it_imports(stage: str) -> None:
    listed = {dependency for dependency in body(stage)["deps"] if import_closure.is_code(dependency)}
    expected = set(import_closure.expected_code(stage))
    assert listed == expected, f"run `make deps`: missing {expected - listed}, superfluous {listed - expected}"


def test_every_stage_script_is_a_stage_and_every_stage_has_its_script() -> None:
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")}
    assert scripts - {"prove"} == set(STAGES)  # `make prove` runs that one
    for stage in STAGES:
        assert body(stage)["cmd"].split()[:2] == ["python", f"stages/{stage}.py"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_reads_exactly_the_params_that_dvc_watches_for_it(stage: str) -> None:
    """A stage that read a section DVC does not watch would keep stale results; `report` loads all of them."""
    read = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_section":
            read.add(ast.unparse(node.args[1]).removeprefix("f").strip("'\"").replace("{cell}", "${key}"))
    watched = {str(param) for param in body(stage).get("params", [])}
    if stage == "report":
        assert "classifiers" in watched
        return
    # `extract_features` reads the encoder that its cell names.
    read = {key.replace("{settings.encoder}", "${item.encoder}") for key in read}
    # `score_captions` reads only which dataset its cell is on, which is a path in its `deps` as well.
    if stage == "score_captions":
        read.discard("captioners.${key}.learning")
    assert read == watched


def test_package_inits_hold_nothing_but_a_docstring() -> None:
    """They are executed by every import below them and stand in no stage's dependencies."""
    for path in (ROOT / "src/seesay").rglob("__init__.py"):
        body_of_module = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body_of_module) <= 1, path
        assert all(isinstance(node, ast.Expr) for node in body_of_module), path


def test_every_stage_leaves_a_run_record_that_no_stage_depends_on() -> None:
    for stage in STAGES:
        records = [out for out in body(stage)["outs"] if isinstance(out, str) and out.startswith("runs/")]
        assert len(records) == 1, stage
        assert not [dependency for dependency in body(stage)["deps"] if dependency.startswith("runs")], stage


def test_the_closure_follows_imports_inside_functions(tmp_path: Path) -> None:
    """It does not follow those for type checking."""
    package = tmp_path / "src/seesay"
    package.mkdir(parents=True)
    (package / "a.py").write_text("def f():\n    from seesay import b\n")
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import seesay.c\n")
    (package / "c.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text("from seesay.a import f\n")
    assert import_closure.import_closure(script, tmp_path / "src") == {package / "a.py", package / "b.py"}
