"""A `python` with all libraries of the stages already imported, for tests that are not about processes.

Importing torch, torchvision and DVC takes most of the time of a stage on a few tiny images. `WarmPython` imports them
once, in a process that does nothing else. Each `python script.py ...` or `python -m module ...` with its folder first
on PATH is answered by a fork of that process. The fork is a separate process with the caller's folder, environment and
output, as usual, and imports all of seesay anew. The only difference is in how DVC writes its lock file; see
`write_locks_faster`.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

IMPORTED = (
    "dvc.cli", "dvc.commands.repro", "dvc.repo", "jinja2", "matplotlib.figure", "matplotlib.style",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "PIL.Image", "psutil", "pydantic",
    "ruamel.yaml", "scipy.optimize", "scipy.stats", "sklearn.decomposition", "sklearn.feature_extraction.text",
    "sklearn.linear_model", "sklearn.metrics", "torch", "torch._dynamo", "torch.fx.passes.shape_prop",
    "torch.utils.flop_counter", "torchvision", "torchmetrics.functional.image",
)  # fmt: skip

CALL = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    status = server.recv(16)
sys.exit(int(status) if status else "the warm Python is gone")
"""


class WarmPython:
    """A process with everything imported. It listens until `end` is called; `folder` holds its `python`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))  # the address of a socket must be short
        address = str(self.folder / "socket")
        (self.folder / "call.py").write_text(CALL.format(address=address))
        python = self.folder / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {self.folder}/call.py "$@"\n')
        python.chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, __file__, address], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        self._process.communicate()
        shutil.rmtree(self.folder)


def serve(address: str) -> None:
    """Listen as long as stdin is open, and answer each call in a separate process."""
    gc.freeze()  # objects that are never collected are never copied to a fork
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the processes that run `pass_on`
    while select.select([server, sys.stdin], [], [])[0] == [server]:
        caller, _ = server.accept()
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pass_on(caller)
            os._exit(0)
        caller.close()


def pass_on(caller: socket.socket) -> None:
    """Run one call in a new process, and send its exit status back to the caller."""
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile("rb") as request:
        call = json.load(request)
    process = multiprocessing.get_context("fork").Process(target=answer, args=(*call, streams))
    process.start()
    process.join()
    caller.sendall(str((process.exitcode or 0) % 256).encode())


def answer(arguments: list[str], folder: str, environment: Mapping[str, str], streams: list[int]) -> None:
    """Run `arguments` as `python` would."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if arguments[0] == "-m":
        sys.path[0], sys.argv = folder, arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(arguments[0]).resolve().parent), arguments
        runpy.run_path(arguments[0], run_name="__main__")


def write_locks_faster() -> None:
    """Make DVC read and write dvc.lock without preserving comments.

    By default it preserves them after each stage, which takes two seconds, but dvc.lock has none.
    """
    from dvc.utils.serialize import _yaml
    from ruamel.yaml import YAML

    def dump(data: Any, stream: TextIO) -> None:
        yaml = YAML(typ="safe")
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False
        yaml.dump(json.loads(json.dumps(data)), stream)

    assert callable(_yaml.parse_yaml_for_update)
    assert callable(_yaml._dump)
    _yaml.parse_yaml_for_update, _yaml._dump = _yaml.parse_yaml, dump


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    write_locks_faster()
    serve(sys.argv[1])
