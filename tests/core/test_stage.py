"""A stage script ends bad input in one line and status 1, and our own defects in a traceback."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run_script(
    tmp_path: Path, body: str, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(
        "from seesay.core.errors import InputError\nfrom seesay.core.stage import run\n" + textwrap.dedent(body)
    )
    return subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_bad_input_is_one_line_and_status_1(tmp_path: Path) -> None:
    done = run_script(tmp_path, "def main(cell): raise InputError(f'params.yaml: {cell}: wrong')\nrun(main)", "mlp")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "seesay: error: params.yaml: mlp: wrong\n")


def test_a_file_system_failure_names_the_file(tmp_path: Path) -> None:
    done = run_script(tmp_path, "def main(): open('/nowhere/x')\nrun(main)")
    assert done.returncode == 1
    assert done.stderr == "seesay: error: [Errno 2] No such file or directory: '/nowhere/x'\n"


def test_a_defect_keeps_its_traceback(tmp_path: Path) -> None:
    done = run_script(tmp_path, "def main(): raise KeyError('x')\nrun(main)")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_the_traceback_of_bad_input_is_there_on_demand(tmp_path: Path) -> None:
    done = run_script(tmp_path, "def main(): raise InputError('x')\nrun(main)", env={"SEESAY_TRACEBACK": "1"})
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("main", "arguments"), [("main(cell)", []), ("main()", ["mlp"]), ("main(cell)", ["a", "b"])])
def test_a_wrong_number_of_arguments_is_refused(tmp_path: Path, main: str, arguments: list[str]) -> None:
    done = run_script(tmp_path, f"def {main}: print('ran')\nrun(main)", *arguments)
    assert done.returncode == 1
    assert "expected" in done.stderr
    assert "ran" not in done.stdout


def test_without_an_argument_the_cell_is_that_of_dvc_stage(tmp_path: Path) -> None:
    """DVC writes the path to dvc.yaml before the stage's name when it is called in another folder."""
    for stage in ("train_classifier@mlp", "../dvc.yaml:train_classifier@mlp"):
        done = run_script(tmp_path, "def main(cell): print(cell)\nrun(main)", env={"DVC_STAGE": stage})
        assert (done.returncode, done.stdout) == (0, "mlp\n"), done.stderr
    without = run_script(tmp_path, "def main(cell): print(cell)\nrun(main)", env={"DVC_STAGE": "report"})
    assert without.returncode == 1
    assert "expected the name of one entry of params.yaml" in without.stderr


def test_no_stage_starts_while_any_entry_has_a_bad_name(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("classifiers: {mlp: {}, '../mine': {}}\n")
    body = f"import os\nos.chdir({str(tmp_path)!r})\ndef main(cell): print('ran')\nrun(main)"
    done = run_script(tmp_path, body, "mlp")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("seesay: error: params.yaml: classifiers: got the name '../mine': expected a lower")


def test_a_terminated_stage_cleans_up_and_exits_143(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time, pathlib\nfrom seesay.core.files import atomic_path\nfrom seesay.core.stage import run\n"
        f"def main():\n    with atomic_path(pathlib.Path({str(tmp_path)!r}) / 'out.txt'):\n"
        "        print('writing', flush=True)\n        time.sleep(60)\nrun(main)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py"]
