"""How a Java scorer is run: found or not, talked to with a limit on time, and ended whatever happens."""

from __future__ import annotations

import importlib.util
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from seesay.errors import InputError


def find_java() -> str | None:
    return shutil.which("java")


def find_packaged_file(package: str, name: str) -> Path | None:
    """A file beside an installed package's modules; the package itself is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return None
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


class LineProcess:
    """A process that answers each line written to it with lines of its own. Use it in a `with`: it dies at the end."""

    def __init__(self, command: Sequence[str], *, name: str, seconds: float) -> None:
        """`seconds` is the limit for all of it together, after which `read` raises `InputError`."""
        self.name, self.deadline, self.seconds = name, time.monotonic() + seconds, seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__; a pipe nobody reads would fill up
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )
        self._unread = b""

    def ask(self, line: str) -> str:
        """Writes a line and reads one."""
        assert "\n" not in line, "one line at a time"
        self.write(line)
        return self.read()

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        content = memoryview(f"{line}\n".encode())
        try:
            while content:
                self._wait(writing=True)
                content = content[
                    self._process.stdin.write(content[:4096]) or 0 :
                ]  # less than a pipe holds: never stuck
        except BrokenPipeError:
            raise self._ended() from None

    def read(self) -> str:
        """The next line without its end; `InputError` where the process has ended or time is up."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            self._wait(writing=False)
            content = self._process.stdout.read(1 << 16)
            if not content:
                raise self._ended()
            self._unread += content
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode("utf-8", errors="replace").strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
        self._process.wait()

    def _wait(self, *, writing: bool) -> None:
        stream = self._process.stdin if writing else self._process.stdout
        assert stream is not None
        left = max(0.0, self.deadline - time.monotonic())
        ready = select.select([] if writing else [stream], [stream] if writing else [], [], left)
        if not (ready[0] or ready[1]):
            raise InputError(f"{self.name}: no answer within {self.seconds:g} s: is the machine too busy for it?")

    def _ended(self) -> InputError:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        reason = said[-1] if said else "it said nothing"
        return InputError(f"{self.name}: ended early with status {self._process.returncode}: {reason}")
