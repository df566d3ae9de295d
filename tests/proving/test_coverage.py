"""The proofs of all kinds together run every line that trainings can run, but for those that are listed."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage
import pytest

from seesay.proving.cases import PROOFS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/seesay"

FOLDERS = ("models", "training")
FILES = (
    "data/augmentation.py", "data/caption_batches.py", "data/colour.py", "data/feature_origin.py",
    "data/feature_rows.py", "data/features.py", "data/geometry.py", "data/image_batches.py", "data/image_views.py",
    "data/joined_features.py", "data/mixing.py", "data/patch_masks.py", "data/pixel_rows.py",
    "data/principal_components.py", "data/trivial_augment.py", "evaluation/caption_reward.py", "seeding.py",
)  # fmt: skip
"""What stands behind a number of a training, below the package's folder."""

ELSEWHERE = {
    "models/beam_search.py": "decoding, a cheap stage",
    "models/decoding.py": "which way of decoding, for cheap stages",
    "models/onnx_export.py": "export",
    "training/rate_range.py": "a command that stores nothing",
}

EXCEPTIONS: dict[str, dict[str, str]] = {}
"""By file: the first line of what is not run, and why. An error's branch, one that ends by raising, needs no entry."""


def test_proofs_run_every_line_of_what_they_stand_for(tmp_path: Path) -> None:
    data = tmp_path / "coverage"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    (tmp_path / "settings").write_text(f"[run]\nsource = {PACKAGE}\n")
    command = [sys.executable, "-m", "coverage", "run", "-p", f"--rcfile={tmp_path / 'settings'}"]

    def prove(kind: str) -> None:
        ran = [*command, f"--data-file={data}", str(ROOT / "stages/prove.py"), kind]
        subprocess.run(ran, cwd=tmp_path, env=environment, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(prove, PROOFS))
    found = coverage.Coverage(data_file=str(data))
    found.combine([str(tmp_path)])
    left_out = {}
    for path in _units():
        name = path.relative_to(PACKAGE).as_posix()
        _, _, missing, _ = found.analysis(str(path))
        excused = set(_error_lines(path)) | set(_excused_lines(path, EXCEPTIONS.get(name, {})))
        if unseen := sorted(set(missing) - excused):
            lines = path.read_text(encoding="utf-8").splitlines()
            left_out[name] = [f"{number}: {lines[number - 1].strip()}" for number in unseen]
    assert not left_out, "\n".join([f"{name} {line}" for name, lines in left_out.items() for line in lines])


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_names_a_line_that_is_there_once(name: str) -> None:
    lines = [line.strip() for line in (PACKAGE / name).read_text(encoding="utf-8").splitlines()]
    assert {line: lines.count(line) for line in EXCEPTIONS[name]} == dict.fromkeys(EXCEPTIONS[name], 1)


def _units() -> list[Path]:
    of_folders = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).glob("*.py"))]
    return [
        path
        for path in [*of_folders, *(PACKAGE / name for name in FILES)]
        if path.relative_to(PACKAGE).as_posix() not in ELSEWHERE
    ]


def _error_lines(path: Path) -> Iterator[int]:
    """Lines of blocks that end by raising an error."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and block and isinstance(block[-1], ast.Raise):
                first = node.lineno if isinstance(node, ast.ExceptHandler) else block[0].lineno
                yield from range(first, block[-1].end_lineno + 1)
        if isinstance(node, ast.Raise):
            yield from range(node.lineno, node.end_lineno + 1)


def _excused_lines(path: Path, exceptions: dict[str, str]) -> Iterator[int]:
    """Lines of the statements that begin with a listed line; a function's or an `if`'s is all that is in it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and lines[node.lineno - 1].strip() in exceptions:
            yield from range(node.lineno, node.end_lineno + 1)
