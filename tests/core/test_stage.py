"""A stage script ends bad input in one line and status 1, and our own defects in a traceback."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from seesay.core.files import file_digest, write_text
from seesay.core.stage import Scratch, remove_saved_scratch

STAGES = Path(__file__).resolve().parents[2] / "stages"


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


INTERRUPTED = """
import os, signal
def main():
    try:
        os.kill(os.getpid(), {number})
    except KeyboardInterrupt as interruption:
        {note}
        raise
run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("pass", "seesay: interrupted; run again to resume\n"),
        (
            "interruption.add_note('interrupted at epoch 2 of 9')",
            "seesay: interrupted at epoch 2 of 9; run again to resume\n",
        ),
    ],
)
def test_an_interruption_is_one_line(tmp_path: Path, number: signal.Signals, note: str, said: str) -> None:
    done = run_script(tmp_path, INTERRUPTED.format(number=int(number), note=note))
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", said)


INTERRUPTING = """
import os, signal, sys
class Interrupting:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "seesay", "org"}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
"""
"""A `sitecustomize` that interrupts the first import of a library. The standard library tries org.python itself."""


@pytest.mark.parametrize("script", sorted(STAGES.glob("*.py")), ids=lambda script: script.stem)
def test_an_interruption_of_the_imports_of_any_stage_is_one_line(script: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "DVC_STAGE": script.stem}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "seesay: interrupted; run again to resume\n")


def test_a_stage_ends_with_the_dvc_that_runs_it(tmp_path: Path) -> None:
    """The shell stands for DVC: it has `dvc` in its command line. Its child is not its only process."""
    (tmp_path / "stage.py").write_text(
        "import os, time\nfrom seesay.core.stage import run\n"
        "def main():\n    print(os.getpid(), flush=True)\n    time.sleep(60)\nrun(main)\n"
    )
    dvc = tmp_path / "dvc"
    dvc.write_text(f"{sys.executable} {tmp_path / 'stage.py'}\ntrue\n")
    environment = {**os.environ, "DVC_STAGE": "stage"}
    with subprocess.Popen(["sh", dvc], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        stage = psutil.Process(int(process.stdout.readline()))
        process.kill()
        gone, _ = psutil.wait_procs([stage], timeout=30)
        assert gone
        assert process.stderr is not None
        assert process.stderr.read() == b"seesay: interrupted; run again to resume\n"


def make_scratch(root: Path, record: str = "a") -> tuple[Path, Path]:
    """Return a scratch folder with some state, and a run record."""
    folder, path = root / ".work/0123", root / "runs/train/x.json"
    write_text(folder / "state.pt", "state")
    write_text(path, record)
    return folder, path


def test_scratch_is_removed_at_the_end_where_no_dvc_saves_the_run(tmp_path: Path) -> None:
    folder, record = make_scratch(tmp_path)
    scratch = Scratch(folder, "train@x")
    scratch.finish(tmp_path, record)
    scratch.release()
    assert not folder.exists()


@pytest.mark.parametrize("outcome", ["saved", "run again", "not saved", "outputs removed"])
def test_scratch_outlives_a_finished_stage_until_dvc_has_saved_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@x")
    folder, record = make_scratch(tmp_path)
    scratch = Scratch(folder, "train@x")
    scratch.finish(tmp_path, record)
    scratch.release()
    write_text(tmp_path / "dvc.lock", "md5: of another run\n")
    if outcome == "saved":
        write_text(tmp_path / "dvc.lock", f"path: runs/train/x.json\nmd5: {file_digest(record, 'md5')}\n")
    elif outcome == "run again":
        record.write_text("b")
    elif outcome == "outputs removed":
        record.unlink()
    remove_saved_scratch(tmp_path)
    assert (folder / "state.pt").exists() == (outcome in ("not saved", "outputs removed"))


def test_a_second_process_waits_for_the_scratch_and_says_so(tmp_path: Path) -> None:
    folder, record = make_scratch(tmp_path)
    scratch = Scratch(folder, "train@x")
    code = f"from pathlib import Path\nfrom seesay.core.stage import Scratch\nScratch(Path({str(folder)!r}), 'train@x')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"seesay: waiting for another process that is running this stage\n"
        assert process.poll() is None
        scratch.finish(tmp_path, record)  # removes the folder
        scratch.release()
        assert process.wait(30) == 0
    assert {path.name for path in folder.iterdir()} == {"address", "lock"}


def test_what_interrupted_runs_of_the_stage_left_goes_when_it_finishes(tmp_path: Path) -> None:
    """They had other parameters or other code. What is of another stage, or in use, stays."""
    record = make_scratch(tmp_path)[1]
    left = {name: tmp_path / ".work" / name for name in ("old", "foreign", "running")}
    for name, folder in left.items():
        scratch = Scratch(folder, "train@y" if name == "foreign" else "train@x")
        write_text(folder / "state.pt", "state")
        if name != "running":
            scratch.release()
    ended = Scratch(tmp_path / ".work/0123", "train@x")
    ended.finish(tmp_path, record)
    ended.release()
    assert {path.name for path in (tmp_path / ".work").iterdir()} == {"foreign", "running"}


def test_without_an_argument_the_cell_is_that_of_dvc_stage(tmp_path: Path) -> None:
    """DVC writes the path to dvc.yaml before the stage's name when it is called in another folder."""
    for stage in ("train_classifier@mlp", "../dvc.yaml:train_classifier@mlp"):
        done = run_script(tmp_path, "def main(cell): print(cell)\nrun(main)", env={"DVC_STAGE": stage})
        assert (done.returncode, done.stdout) == (0, "mlp\n"), done.stderr
    without = run_script(tmp_path, "def main(cell): print(cell)\nrun(main)", env={"DVC_STAGE": "report"})
    assert without.returncode == 1
    assert "expected one argument, the name of an entry in params.yaml" in without.stderr


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
