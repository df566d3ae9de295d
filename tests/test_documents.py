"""The documents say what is so: paths, symbols, commands, settings and results."""

import ast
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from pathlib import Path

import pytest
from dvc.cli import DvcParserError
from dvc.cli import parse_args as parse_dvc
from ruamel.yaml import YAML

import seesay
from seesay.cli import _parser as seesay_parser
from seesay.core.settings import validate
from seesay.params.project import Params
from seesay.report.readme import outdated_documents
from seesay.report.rules import Gates

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "mlruns/README.md"]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))

MADE = ("data/", "models/", "runs/", ".work/", "mlruns/", ".venv/")
"""What a run or the set-up makes; a fresh clone has none of it."""

OTHER_PROGRAMS = {"$EDITOR", "cd", "curl", "pip", "printf", "source"}


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, *languages: str) -> list[str]:
    """The contents of the fenced blocks in these languages."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```", text_of(document), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(content) for _, language, content in found if language in languages]


def commands(document: str) -> list[str]:
    """Every line of a `bash` block, and the lines of a `console` block that begin with a prompt."""
    lines = [line for block in blocks(document, "bash") for line in block.splitlines() if line.strip()]
    shown = [line for block in blocks(document, "console") for line in block.splitlines()]
    return lines + [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]


def inline_code(document: str) -> list[str]:
    without_blocks = re.sub(r"^( *)```.*?^\1```", "", text_of(document), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", without_blocks)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE))


def test_the_documents_show_the_committed_results() -> None:
    assert outdated_documents(ROOT) == [], "run `seesay readme`"


@pytest.mark.parametrize(("document", "most"), [("README.md", 150), ("docs/architecture.md", 250)])
def test_a_document_stays_short(document: str, most: int) -> None:
    assert len(text_of(document).splitlines()) <= most


def test_the_readme_leads_to_every_document() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)\)", text_of("README.md")))
    assert {name for name in DOCUMENTS if name.startswith("docs/")} <= linked


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_links_of_a_document_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(document)):
        if "://" not in target:
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_paths_that_a_document_names_are_there(document: str) -> None:
    top = {path.name for path in ROOT.iterdir()} | {"proofs"}
    for name in inline_code(document):
        if " " in name or re.search(r"[<*{@]", name) or name.startswith(MADE) or "://" in name:
            continue
        if name.partition("/")[0] in top and ("/" in name or "." in name):
            assert (ROOT / name).exists(), f"{document}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_modules_that_a_document_names_exist(document: str) -> None:
    for name in inline_code(document):
        if re.fullmatch(r"seesay(\.\w+)+", name) and name.partition(".")[2] not in seesay.__all__:
            importlib.import_module(name)


def test_find_your_way_names_files_that_answer() -> None:
    section = text_of("README.md").partition("## Find your way")[2].partition("\n## ")[0]
    answers = re.findall(r"^\| .*\? \| \[(.+?)\]\((.+?)\): `(\w+)` \|$", section, re.MULTILINE)
    assert len(answers) == 8
    for shown, path, symbol in answers:
        assert shown == path
        assert re.search(rf"\b{symbol}\b", text_of(path)), f"{path}: {symbol}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_a_document_parse(document: str) -> None:
    for command in commands(document):
        words = shlex.split(command, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):  # a variable of the environment
            words = words[1:]
        if words:
            check_command(words, where=f"{document}: {command}")


def check_command(words: list[str], *, where: str) -> None:
    program, *arguments = words
    if program == "seesay":
        seesay_parser().parse_args(arguments)
    elif program == "dvc":
        try:
            parse_dvc(arguments)
        except DvcParserError:
            pytest.fail(where)
        check_stages(arguments, where=where)
    elif program == "make":
        assert set(arguments) <= make_targets(), where
    elif program == "git":
        helped = subprocess.run(["git", arguments[0], "-h"], capture_output=True, check=False)
        assert helped.returncode == 129, where  # of its own usage; 1 for a command that it does not have
    elif program == "mlflow":
        assert arguments[0] in ("ui", "models", "server"), where
    elif program == "python":
        script = text_of(arguments[0])
        assert all(f'"{flag}"' in script for flag in arguments if flag.startswith("--")), where
    else:
        assert program in OTHER_PROGRAMS, where


def check_stages(arguments: list[str], *, where: str) -> None:
    """Stages have a script; which instances there are, params.yaml says."""
    for stage in (argument.partition("@")[0] for argument in arguments if "@" in argument):
        assert (ROOT / f"stages/{stage}.py").is_file(), where


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_in_running_text_exist(document: str) -> None:
    for code in inline_code(document):
        program, _, rest = code.partition(" ")
        words = rest.split()
        if program == "make" and words:
            assert words[0] in make_targets(), f"{document}: {code}"
        elif program == "seesay" and words:
            seesay_commands = seesay_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
            assert words[0] in seesay_commands, f"{document}: {code}"  # type: ignore[operator]
        elif program == "dvc" and words:
            check_stages(words, where=f"{document}: {code}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_settings_that_a_document_shows_are_valid(document: str) -> None:
    for block in blocks(document, "yaml"):
        content = YAML(typ="safe", pure=True).load(block)
        if "rules" in content:
            validate(content, Gates, where=document)
            continue
        for section, value in content.items():
            validate(value, Params.model_fields[section].annotation, where=document, prefix=[section])


def test_configuration_describes_every_section_of_params() -> None:
    text = text_of("docs/configuration.md")
    assert [section for section in Params.model_fields if not re.search(rf"\b{section}\b", text)] == []


def test_the_layers_in_the_architecture_are_import_linters() -> None:
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    shown = text_of("docs/architecture.md").partition("may import those below it:\n\n```\n")[2].partition("```")[0]
    assert shown.splitlines() == layers


def test_import_linters_contracts_hold_for_modules_to_come() -> None:
    """A list of modules would not name the next one."""
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    assert all(one["exhaustive"] for one in contracts if one["type"] == "layers")
    assert [one["source_modules"] for one in contracts if one.get("forbidden_modules") == ["mlflow"]] == [["seesay"]]


def test_the_picture_is_small_and_its_script_has_what_it_imports() -> None:
    assert (ROOT / "docs/images/demo.webp").stat().st_size < 200_000
    spec = importlib.util.spec_from_file_location("make_picture", ROOT / "docs/make_picture.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_notebook_is_committed_without_what_a_run_adds() -> None:
    """Outputs would have times and paths of a machine. A test of the whole pipeline runs the cells."""
    text = text_of("examples/tour.ipynb")
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert re.findall(r"\B/(?:home|root|tmp|Users)\b", text) == []


def test_git_ignores_all_of_mlruns_but_its_readme() -> None:
    ignored = {
        name: subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == 0
        for name in ("mlruns/README.md", "mlruns/mlflow.db", "mlruns/artifacts/figure.png")
    }
    assert ignored == {"mlruns/README.md": False, "mlruns/mlflow.db": True, "mlruns/artifacts/figure.png": True}


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith(("#", "set ", "cd "))] == ["make test"]
    assert any(command.startswith("make test") for command in commands("README.md"))


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
