"""The `python` with everything already imported behaves like an ordinary one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
import beside
print(__name__, sys.argv, os.getcwd(), os.environ.get("SAYS"), beside.VALUE, flush=True)
print("to stderr", file=sys.stderr)
sys.exit({status})
"""


@pytest.mark.parametrize("status", ["0", "3", "'in words'", "1 / 0"])
def test_it_runs_a_script_as_an_ordinary_python_does(warm_python: Path, tmp_path: Path, status: str) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/beside.py").write_text("VALUE = 7")
    (tmp_path / "scripts/script.py").write_text(SCRIPT.format(status=status))

    def run(python: Path) -> subprocess.CompletedProcess[str]:
        command = [str(python), "scripts/script.py", "an argument"]
        return subprocess.run(command, cwd=tmp_path, env={"SAYS": "so"}, capture_output=True, text=True, check=False)

    ordinary, warm = run(Path(sys.executable)), run(warm_python / "python")
    assert (warm.returncode, warm.stdout) == (ordinary.returncode, ordinary.stdout)
    assert warm.stdout.startswith("__main__ ")
    assert warm.stderr.startswith("to stderr\n")
    assert warm.stderr.splitlines()[-1] == ordinary.stderr.splitlines()[-1]


def test_it_runs_a_module_as_an_ordinary_python_does(warm_python: Path, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import sys\nprint(__name__, sys.argv, sys.path[0])")
    said = [
        subprocess.run([str(python), "-m", "module", "x"], cwd=tmp_path, capture_output=True, text=True, check=True)
        for python in (Path(sys.executable), warm_python / "python")
    ]
    assert said[0].stdout == said[1].stdout


def test_nothing_of_seesay_is_imported_before_a_script_does_so(warm_python: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nprint([name for name in sys.modules if 'seesay' in name])")
    command = [str(warm_python / "python"), "script.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "[]\n"
