"""A fork server: a `python` for stages in which the libraries are already imported.

Importing torch and its companions takes longer than many a stage of the demo. `ForkServer` starts a process that
imports them once. Every `python script.py ...` or `python -m module ...` with the server's folder first on PATH is
answered by a fork of that process: a separate process with the caller's folder, environment, streams, signals and exit
status, as usual. It imports all of seesay anew. Linux only, since forks of processes with frameworks are unsafe
elsewhere.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import marshal
import multiprocessing.util
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "captum.attr", "cv2", "filelock", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "matplotlib.figure", "matplotlib.style", "PIL.WebPImagePlugin", "psutil", "pydantic.main", "ruamel.yaml",
    "safetensors.torch", "scipy.optimize", "scipy.stats", "sklearn.decomposition", "sklearn.feature_extraction.text",
    "sklearn.linear_model", "sklearn.metrics", "torch._dynamo", "torchmetrics.functional.image",
)  # fmt: skip
"""What most stages import, with what an optimizer's first step imports (`torch._dynamo`).

The server imports them when the first stage starts.
"""

_CALLER = "SEESAY_CALLER"

_PYTHON = """#!/bin/sh
case "${{1--}}" in -m) ;; -*) exec {python} "$@" ;; esac
exec {python} -IS {folder}/call.py "$@"
"""
# It imports built-in modules only, which take no time, because every stage waits for it. The server answers with the
# exit status, negative for a signal as in `subprocess`.
_CALL = """
import _signal, _socket, marshal, posix, sys
server = _socket.socket(_socket.AF_UNIX)
try:
    server.connect({address!r})
except OSError:
    posix.execv(sys.executable, [sys.executable, *sys.argv[1:]])
request = marshal.dumps((sys.argv[1:], posix.getcwd(), posix.environ, posix.getpid()))
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([len(request).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
server.sendall(request)
for number in {forwarded}:
    _signal.signal(number, lambda number, frame: server.send(bytes([number])))
answer = server.recv(16)
if not answer:
    sys.exit("seesay: error: the process that starts the stages is gone")
status = int(answer)
if status < 0:
    if -status != _signal.SIGKILL:
        _signal.signal(-status, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -status)
posix._exit(status)
"""
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def caller_pid() -> int:
    """Return the id of the process whose parent started this one: a fork's caller, or this process itself."""
    pid, _, caller = os.environ.get(_CALLER, "").partition(":")
    return int(caller) if pid == str(os.getpid()) else os.getpid()


class ForkServer:
    """A running fork server, until `end` is called or the calling process ends. `folder` holds its `python`.

    It imports `libraries` (by default `LIBRARIES`).
    """

    def __init__(self, environment: Mapping[str, str], libraries: Sequence[str] | None = None) -> None:
        from seesay.core.files import new_socket_directory  # the server itself imports nothing of seesay

        libraries = LIBRARIES if libraries is None else libraries
        self.folder = new_socket_directory()
        address = str(self.folder / "socket")
        numbers = tuple(int(number) for number in _FORWARDED)
        (self.folder / "call.py").write_text(_CALL.format(address=address, forwarded=numbers))
        python = self.folder / "python"
        python.write_text(_PYTHON.format(python=shlex.quote(sys.executable), folder=shlex.quote(str(self.folder))))
        python.chmod(0o700)
        # In a session of its own: a signal to the caller's group reaches a stage once, through its `python`.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, address, *libraries], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it listens

    def end(self) -> None:
        """End the server, after the stages that still run."""
        self._process.communicate()


@contextlib.contextmanager
def forking_python(environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Yield `environment` with a fork server's `python` first on PATH, on Linux."""
    if sys.platform != "linux":
        yield environment
        return
    server = ForkServer(environment)
    try:
        yield {**environment, "PATH": os.pathsep.join([str(server.folder), environment["PATH"]])}
    finally:
        server.end()


def serve(address: str, libraries: Sequence[str]) -> Sequence[str]:
    """Answer calls as long as stdin is open, then wait for the forks. Return in a fork, with the arguments of its call.

    A caller's signals are passed on to its fork, and the fork's exit status to the caller.
    """
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    callers: dict[int, socket.socket] = {}  # by the fork's process id
    calls: list[Any] = [server, sys.stdin]
    imported = False
    while calls or callers:
        events = [ended, *(caller for caller in callers.values() if caller.fileno() >= 0), *calls]
        ready = set(select.select(events, [], [])[0])
        if ended in ready:
            os.read(ended, 512)
            _tell_how_forks_ended(callers)
        for fork, caller in callers.items():
            if caller in ready:
                _pass_signals_on(caller, fork)
        if sys.stdin in ready:
            calls = []
        elif server in ready:
            caller, _ = server.accept()
            if not imported:
                for name in libraries:
                    importlib.import_module(name)
                _forget_exit_functions()
                gc.freeze()  # objects that are never collected are never copied to a fork
                imported = True
            request, streams = _receive(caller)
            if not request:
                caller.close()
                continue
            signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # a fork's Python forgets what comes as it starts
            fork = os.fork()
            if fork == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (ended, wake):
                    os.close(descriptor)
                for one in (server, caller, *callers.values()):
                    one.close()
                return _become(request, streams)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
            for descriptor in streams:
                os.close(descriptor)
            callers[fork] = caller
    shutil.rmtree(Path(address).parent)
    os._exit(0)


def _forget_exit_functions() -> None:
    """Forget what the imported libraries would do at exit, as `multiprocessing` does for its forks.

    It concerns what this process has made. A fork ends what it makes itself. In torch alone these functions take a
    tenth of a second.
    """
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]


def _receive(caller: socket.socket) -> tuple[bytes, Sequence[int]]:
    """Receive a request and the caller's streams, and no more, because signals follow.

    The request is empty if the caller is gone.
    """
    received, size = b"", 0
    streams: list[int] = []
    with contextlib.suppress(OSError):
        header, streams, _, _ = socket.recv_fds(caller, 8, 3)
        size = int.from_bytes(header, "big")
        while len(received) < size and (part := caller.recv(size - len(received), socket.MSG_WAITALL)):
            received += part
    if size and len(received) == size:
        return received, streams
    for descriptor in streams:
        os.close(descriptor)
    return b"", []


def _pass_signals_on(caller: socket.socket, fork: int) -> None:
    numbers = b""
    with contextlib.suppress(OSError):
        numbers = caller.recv(16)
    if not numbers:  # it was killed
        caller.close()
    for number in numbers or [signal.SIGTERM]:
        os.kill(fork, number)


def _tell_how_forks_ended(callers: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):  # no fork is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if (caller := callers.pop(ended[0], None)) is None:
                continue  # a library's process
            with contextlib.suppress(OSError):  # the caller is gone
                caller.sendall(str(os.waitstatus_to_exitcode(ended[1])).encode())
            caller.close()


def _become(request: bytes, streams: Sequence[int]) -> Sequence[str]:
    """Give this process the caller's streams, folder and environment, and return the arguments."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments, folder, environment, pid = marshal.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environb.update(environment)
    os.environ[_CALLER] = f"{os.getpid()}:{pid}"
    assert isinstance(sys.__stdout__, io.TextIOWrapper)  # a library may have wrapped sys.stdout
    sys.__stdout__.reconfigure(line_buffering=os.isatty(1), write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return arguments  # type: ignore[no-any-return]


def run_as_python(arguments: Sequence[str]) -> NoReturn:
    """Run `arguments` as `python` would, and end this process.

    Threads, streams and the exit functions of what it runs end as usual. Then the process ends as those of
    `multiprocessing` do: taking the interpreter apart would touch, and so copy, all memory that is shared with the
    server. That takes seconds.
    """
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)  # an early Ctrl-C is raised here, as in a script
        _run(arguments)
        status = 0
    except SystemExit as end:
        if not (end.code is None or isinstance(end.code, int)):
            sys.stderr.write(f"{end.code}\n")
        status = end.code & 0xFF if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        gc.unfreeze()  # libraries complain at the end about what is never collected
        raise
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(arguments: Sequence[str]) -> None:
    if arguments[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    run_as_python(serve(sys.argv[1], sys.argv[2:]))
