"""dvc.yaml names everything that a stage's result depends on."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.pipeline import code_dependencies

ROOT = Path(__file__).resolve().parents[2]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
EXPENSIVE = {stage for stages in code_dependencies.PROVED.values() for stage in stages}


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def proofs_of(stage: str) -> list[str]:
    return [next(iter(out)) for out in body(stage)["outs"] if isinstance(out, dict)]


def test_stages_list_exactly_the_folders_of_the_modules_they_import() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert text == code_dependencies.with_code(text), "run `make deps`"


def test_expensive_stages_depend_on_a_proof_and_on_no_code() -> None:
    for stage in EXPENSIVE:
        dependencies = body(stage)["deps"]
        assert [name for name in dependencies if name.startswith("proofs/")], stage
        assert not [name for name in dependencies if code_dependencies.is_code(name)], stage


def test_no_stage_depends_on_plumbing() -> None:
    plumbing = tuple(f"src/seesay/{package}" for package in code_dependencies.PLUMBING)
    for stage in STAGES:
        assert not [name for name in body(stage)["deps"] if name.startswith(plumbing)], stage


def test_proofs_are_kept_in_git_and_rewritten_only_by_their_stage() -> None:
    """`persist` keeps the old proof for comparison, and skips the run cache."""
    listed = []
    for stage in code_dependencies.PROVED:
        for out in body(stage)["outs"]:
            assert list(out.values()) == [{"cache": False, "persist": True}], stage
        listed += proofs_of(stage)
    in_git = {path.relative_to(ROOT).as_posix() for path in (ROOT / "proofs").rglob("*.json")}
    assert sorted(listed) == sorted(in_git)


@pytest.mark.parametrize("stage", code_dependencies.PROVED)
def test_every_proof_depends_on_requirements_lock(stage: str) -> None:
    assert "requirements.lock" in body(stage)["deps"]


def test_no_name_from_params_reaches_the_shell() -> None:
    """A shell would execute `x; touch y`, `$(touch y)` and more, whatever the quotes."""
    for stage in STAGES:
        assert "$" not in body(stage)["cmd"], stage


def test_every_stage_of_an_entry_comes_after_check() -> None:
    """DVC removes the outputs of a stage before it runs it. `check` refuses bad names before that.

    An instance depends on `check` itself, on a stage of the same entry, or on an output without a name in its path. The
    references of a training may all lead elsewhere, but three stages write `runs/<stage>/<name>.json` for its entry:
    if the name leads out of the folder, that is one file, which DVC refuses.
    """
    written = {
        next(iter(out)) if isinstance(out, dict) else out: stage
        for stage in STAGES
        for out in [*body(stage)["outs"], *body(stage).get("metrics", []), *body(stage).get("plots", [])]
    }

    def is_checked(stage: str) -> bool:
        return stage == "check" or any(is_checked(written[name]) for name in body(stage)["deps"] if name in written)

    others = [stage for stage in STAGES if "foreach" in STAGES[stage] and not is_checked(stage)]
    sections = [STAGES[stage]["foreach"] for stage in others]
    assert set(sections) == {"${classifiers}", "${autoencoders}", "${captioners}"}
    for stage in others:
        assert sections.count(STAGES[stage]["foreach"]) >= 3
        assert f"runs/{stage}/${{key}}.json" in body(stage)["outs"]


def test_every_stage_has_its_script() -> None:
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")}
    assert scripts == (set(STAGES) - set(code_dependencies.PROVED)) | {"prove"}
    for stage in STAGES:
        script = "prove" if stage in code_dependencies.PROVED else stage
        assert body(stage)["cmd"].split()[:2] == ["python", f"stages/{script}.py"]


@pytest.mark.parametrize("stage", sorted(set(STAGES) - set(code_dependencies.PROVED)))
def test_a_stage_reads_exactly_the_params_that_dvc_watches(stage: str) -> None:
    """A stage that reads a section that DVC does not watch would keep stale results. `report` and `check` load all."""
    read = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_section":
            read.add(ast.unparse(node.args[1]).removeprefix("f").strip("'\"").replace("{cell}", "${key}"))
    watched = {str(param) for param in body(stage).get("params", [])}
    if stage == "report":
        assert "classifiers" in watched
        return
    if stage == "check":
        assert {"params.yaml", "gates.yaml"} <= set(body(stage)["deps"])
        return
    # Of its captioner, `score_captions` reads only the dataset and the features, which are paths in its `deps` as well.
    if stage == "score_captions":
        read.discard("captioners.${key}.learning")
    assert read == watched


def test_package_inits_hold_nothing_but_a_docstring() -> None:
    """Every import of a module below an `__init__.py` executes it. `tests/test_public_api.py` tests the package's."""
    for path in (ROOT / "src/seesay").rglob("*/__init__.py"):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(statements) <= 1, path
        assert all(isinstance(node, ast.Expr) for node in statements), path


def test_every_stage_leaves_a_run_record_that_no_stage_reads() -> None:
    for stage in set(STAGES) - set(code_dependencies.PROVED) - {"check"}:
        records = [out for out in body(stage)["outs"] if isinstance(out, str) and out.startswith("runs/")]
        assert len(records) == 1, stage
        assert not [dependency for dependency in body(stage)["deps"] if dependency.startswith("runs")], stage


def test_the_flow_reads_like_a_table_of_contents() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 480
    assert (ROOT / "dvc.lock").stat().st_size <= 520_000  # 39 experiments


def test_folders_stay_small_enough_to_be_read() -> None:
    modules = [path for path in (ROOT / "src/seesay").rglob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 190
    for folder in {path.parent for path in modules}:
        assert len([path for path in modules if path.parent == folder]) <= 16, folder


def test_the_closure_follows_imports_inside_functions_only_if_executed(tmp_path: Path) -> None:
    package = tmp_path / "src/seesay"
    package.mkdir(parents=True)
    (package / "a.py").write_text("def f():\n    from seesay import b\n")
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import seesay.c\n")
    (package / "c.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text("from seesay.a import f\n")
    assert code_dependencies.import_closure([script], tmp_path / "src") == {package / "a.py", package / "b.py"}


def test_modules_stand_for_their_folders_and_inner_folders_for_nothing() -> None:
    modules = [Path("p") / name for name in ("seeding.py", "core/files.py", "a/x.py", "a/b/y.py", "c/d/z.py")]
    assert code_dependencies.folders_of(modules, Path("p")) == ["a", "c/d", "seeding.py"]
