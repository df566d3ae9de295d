"""The fork server's `python` behaves like an ordinary one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from seesay.core.forkserver import ForkServer, caller_pid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks of processes with frameworks are unsafe")

SCRIPT = """
import os, sys
import beside
print(__name__, sys.argv, os.getcwd(), os.environ.get("SAYS"), beside.VALUE, flush=True)
print("to stderr", file=sys.stderr)
sys.exit({status})
"""
WAITING = """
import signal, sys, time
try:
    print("waiting", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(0.5)  # a second signal would arrive here
    sys.exit(130)
"""

SLOW_LIBRARY = """
import time
from pathlib import Path
folder = Path(__file__).parent
(folder / "importing").touch()
while not (folder / "imported").exists():
    time.sleep(0.01)
"""

SIGNALS = """
import signal
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print({number: signal.getsignal(number) for number in signal.valid_signals()})
"""

ENDING = """
import atexit, os, threading, time
class Kept:
    def __del__(self, write=os.write):
        write(1, b"dismantled\\n")
threading.kept = Kept()
def later():
    time.sleep(0.2)
    print("thread")
threading.Thread(target=later).start()
atexit.register(print, "at exit")
print("script")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer(dict(os.environ), libraries=["json.tool"])
    yield server
    server.end()


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env={"SAYS": "so"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("status", ["0", "3", "'in words'", "1 / 0"])
def test_it_runs_a_script_as_an_ordinary_python_does(server: ForkServer, tmp_path: Path, status: str) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/beside.py").write_text("VALUE = 7")
    (tmp_path / "scripts/script.py").write_text(SCRIPT.format(status=status))
    arguments = "scripts/script.py", "an argument"
    ordinary, forked = (
        run(python, tmp_path, *arguments) for python in (Path(sys.executable), server.folder / "python")
    )
    assert (forked.returncode, forked.stdout) == (ordinary.returncode, ordinary.stdout)
    assert forked.stdout.startswith("__main__ ")
    assert forked.stderr.startswith("to stderr\n")
    assert forked.stderr.splitlines()[-1] == ordinary.stderr.splitlines()[-1]


def test_it_ends_like_a_python_but_dismantles_nothing(server: ForkServer, tmp_path: Path) -> None:
    """Dismantling the interpreter copies all memory shared with the server, which takes longer than many a stage."""
    (tmp_path / "script.py").write_text(ENDING)
    forked = run(server.folder / "python", tmp_path, "script.py")
    assert (forked.returncode, forked.stdout.splitlines()) == (0, ["script", "thread", "at exit"])


def test_a_fork_ends_what_it_has_made_and_nothing_of_a_library(tmp_path: Path) -> None:
    made = "import atexit, weakref\nclass Kept: pass\nkept = Kept()\n"
    made += "weakref.finalize(kept, print, 'finalizer of', __name__)\natexit.register(print, 'exit of', __name__)\n"
    for name in ("library", "script"):
        (tmp_path / f"{name}.py").write_text(made)
    server = ForkServer({**os.environ, "PYTHONPATH": str(tmp_path)}, libraries=["library"])
    for _ in range(2):
        done = run(server.folder / "python", tmp_path, "script.py")
        assert sorted(done.stdout.splitlines()) == ["exit of __main__", "finalizer of __main__"], done.stderr
    server.end()


def test_callers_side_by_side_get_their_own_exit_statuses(server: ForkServer, tmp_path: Path) -> None:
    """Also where others are killed meanwhile, or break off before they have sent their request."""
    (tmp_path / "script.py").write_text("import sys, time\ntime.sleep(float(sys.argv[1]))\nsys.exit(int(sys.argv[2]))")
    command = [str(server.folder / "python"), "script.py"]
    killed = subprocess.Popen([*command, "60", "0"], cwd=tmp_path)
    callers = [subprocess.Popen([*command, f"0.{9 - number}", str(number)], cwd=tmp_path) for number in range(1, 9)]
    with socket.socket(socket.AF_UNIX) as broken_off:
        broken_off.connect(str(server.folder / "socket"))
        broken_off.send(b"1234")
    killed.kill()
    assert [caller.wait(60) for caller in callers] == list(range(1, 9))
    assert killed.wait(60) == -signal.SIGKILL


def test_it_runs_a_module_as_an_ordinary_python_does(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import sys\nprint(__name__, sys.argv, sys.path[0])")
    ordinary, forked = (run(p, tmp_path, "-m", "module", "x") for p in (Path(sys.executable), server.folder / "python"))
    assert forked.stdout == ordinary.stdout != ""


def test_other_options_go_to_an_ordinary_python(server: ForkServer, tmp_path: Path) -> None:
    done = run(server.folder / "python", tmp_path, "-c", "import sys; print('json.tool' in sys.modules)")
    assert done.stdout == "False\n"


def test_libraries_are_imported_but_nothing_of_seesay(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\nprint([name for name in sys.modules if name == 'json.tool' or 'seesay' in name])"
    )
    assert run(server.folder / "python", tmp_path, "script.py").stdout == "['json.tool']\n"


def test_a_stage_knows_the_process_it_stands_for(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import psutil\nfrom seesay.core.forkserver import caller_pid\nprint(psutil.Process(caller_pid()).ppid())"
    )
    assert run(server.folder / "python", tmp_path, "script.py").stdout == f"{os.getpid()}\n"
    assert caller_pid() == os.getpid()


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "waiting\ninterrupted\n"), (signal.SIGTERM, -signal.SIGTERM, "waiting\n")],
)
def test_a_signal_reaches_the_stage_once(
    server: ForkServer, tmp_path: Path, number: signal.Signals, status: int, said: str
) -> None:
    (tmp_path / "script.py").write_text(WAITING)
    process = subprocess.Popen(
        [server.folder / "python", "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    os.killpg(process.pid, number)
    assert (process.wait(30), "waiting\n" + process.stdout.read()) == (status, said)


def catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_a_stage_whose_server_still_imports(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "slow_library.py").write_text(SLOW_LIBRARY)
    (tmp_path / "script.py").write_text("import time\ntime.sleep(20)")
    server = ForkServer({**os.environ, "PYTHONPATH": str(tmp_path)}, libraries=["slow_library"])
    process = subprocess.Popen(
        [server.folder / "python", "script.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not ((tmp_path / "importing").exists() and catches(process, signal.SIGUSR2)):  # the last one forwarded
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, number)
    time.sleep(0.2)  # the signal now waits at the server's socket
    (tmp_path / "imported").touch()
    error = process.communicate(timeout=60)[1]
    server.end()
    assert (process.returncode, error.splitlines()[-1:]) == (
        -number, ["KeyboardInterrupt"] if number == signal.SIGINT else []
    )  # fmt: skip


def test_a_stage_starts_with_the_signals_of_an_ordinary_python(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SIGNALS)
    ordinary, forked = (run(p, tmp_path, "script.py") for p in (Path(sys.executable), server.folder / "python"))
    assert forked.stdout == ordinary.stdout
    assert forked.stdout.startswith("set()\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_stage_that_a_signal_ends_looks_so_to_its_caller(
    server: ForkServer, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "script.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})")
    forked = run(server.folder / "python", tmp_path, "script.py")
    assert (forked.returncode, forked.stderr) == (-number, "")


def test_a_killed_caller_ends_its_stage(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    process = subprocess.Popen([server.folder / "python", "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stage = int(process.stdout.readline())
    process.kill()
    for _ in range(1000):
        if not psutil.pid_exists(stage):
            return
        time.sleep(0.03)
    pytest.fail("the stage still runs")


def test_it_runs_in_a_temporary_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="it's a ") as folder:  # shorter than `tmp_path`, for the socket
        monkeypatch.setattr(tempfile, "tempdir", folder)
        server = ForkServer(dict(os.environ), libraries=[])
        assert server.folder.is_relative_to(folder)
        done = run(server.folder / "python", tmp_path, "-m", "this")
        server.end()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The Zen of Python")


def test_without_the_server_an_ordinary_python_runs(tmp_path: Path) -> None:
    server = ForkServer(dict(os.environ), libraries=[])
    (server.folder / "socket").unlink()
    assert run(server.folder / "python", tmp_path, "-m", "this").stdout.startswith("The Zen of Python")
    server.end()
    assert not server.folder.exists()
