"""METEOR and SPICE, which are Java programs: found or reported missing, and run with a time limit."""

from __future__ import annotations

import importlib.util
import json
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json

METEOR_TIME_LIMIT = 900.0
"""Seconds for all captions together: it takes ten to load the paraphrases, then about 5 ms per image."""

_SEPARATOR = " ||| "  # of the parts of METEOR's input

JAR = "spice-1.0.jar"
MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SPICE_TIME_LIMIT = 3600.0


class LineProcess:
    """A process that answers each line written to it with a line. Use it in a `with`, which kills it at the end."""

    def __init__(self, command: Sequence[str], *, name: str, seconds: float) -> None:
        """Start `command`. `seconds` from now, reading and writing raise `InputError`."""
        self.name, self.deadline, self.seconds = name, time.monotonic() + seconds, seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__; an unread pipe would fill up
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )
        self._unread = b""

    def ask(self, line: str) -> str:
        """Write a line and read one."""
        assert "\n" not in line, "one line at a time"
        self.write(line)
        return self.read()

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        content = memoryview(f"{line}\n".encode())
        try:
            while content:
                self._wait(writing=True)
                written = self._process.stdin.write(content[:4096])  # less than a pipe holds, so it cannot block
                content = content[written or 0 :]
        except BrokenPipeError:
            raise self._ended_early() from None

    def read(self) -> str:
        """Return the next line, stripped; raise `InputError` if the process has ended or time is up."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            self._wait(writing=False)
            content = self._process.stdout.read(1 << 16)
            if not content:
                raise self._ended_early()
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
            raise InputError(f"{self.name}: no answer within {self.seconds:g} s; the machine may be too busy")

    def _ended_early(self) -> InputError:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else "no message"
        return InputError(f"{self.name}: ended early with status {self._process.returncode}: {reason}")


def why_no_meteor() -> str:
    """Return a sentence on what METEOR lacks on this machine, or "" if it can run."""
    if find_java() is None:
        return "meteor_java is left out: no java on PATH"
    if _meteor_jar() is None:
        return "meteor_java is left out: the package pycocoevalcap, which has it, is missing"
    return ""


def open_meteor(*, seconds: float = METEOR_TIME_LIMIT) -> AbstractContextManager[LineProcess | None]:
    """Start METEOR as a process for any number of calls of `meteor_java`; None if Java or the jar is missing.

    The `with` ends it. It loads in the background, so start it early.
    """
    java, jar = find_java(), _meteor_jar()
    if java is None or jar is None:
        return nullcontext()
    command = [java, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    return LineProcess(command, name="meteor_java", seconds=seconds)


def meteor_java(
    predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]], *, process: LineProcess
) -> tuple[float, np.ndarray]:
    """Return METEOR of the corpus and of each image, float64 (N,). In [0, 1], higher is better.

    `process` comes from `open_meteor`. The corpus value is computed from summed statistics and is not the mean of the
    images. Tokens of bars only are dropped: "|||" separates the parts of METEOR's input, so that one in a reference
    would be taken for the end of it. A caption without tokens scores 0. Raises `InputError` if METEOR ends early or
    takes too long.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    statistics = [
        process.ask(_SEPARATOR.join(["SCORE", *map(_text, of_image), _text(tokens)]))
        for tokens, of_image in zip(predictions, references, strict=True)
    ]
    process.write(_SEPARATOR.join(["EVAL", *statistics]))
    values = np.array([float(process.read()) for _ in statistics])
    return float(process.read()), values


def spice_command(folder: Path) -> list[str]:
    """Return the command that starts SPICE in `folder`; raise `InputError` naming a file that is missing."""
    for path in (folder / JAR, *(folder / "lib" / name for name in MODELS)):
        if not path.is_file():
            raise InputError(f"{path}: no such file: SPICE needs {JAR}, and {' and '.join(MODELS)} in lib/")
    java = find_java()
    if java is None:
        raise InputError("SPICE needs Java: no java on PATH")
    return [java, "-Xmx8G", "-jar", str((folder / JAR).resolve())]


def spice_java(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    command: Sequence[str],
    seconds: float = SPICE_TIME_LIMIT,
) -> np.ndarray:
    """Return SPICE (F1) of each image's caption, float64 (N,), in [0, 1]; the corpus value is the mean.

    Captions are text: tokens joined by spaces, as in coco-caption. An image whose references contain no object,
    attribute or relation has nan. Raises `InputError` if SPICE fails or takes longer than `seconds`.
    """
    with tempfile.TemporaryDirectory(prefix="seesay-spice-") as scratch:
        captions_path, scores_path = Path(scratch) / "captions.json", Path(scratch) / "scores.json"
        entries = [
            {"image_id": number, "test": caption, "refs": list(of_image)}
            for number, (caption, of_image) in enumerate(zip(predictions, references, strict=True))
        ]
        write_json(captions_path, entries)
        call = [*command, str(captions_path), "-out", str(scores_path), "-subset", "-silent"]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=seconds, check=False, cwd=scratch)
        except subprocess.TimeoutExpired:
            raise InputError(f"SPICE: not done within {seconds:g} s") from None
        if done.returncode != 0 or not scores_path.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise InputError(f"SPICE: ended with status {done.returncode}: {lines[-1] if lines else 'no message'}")
        return _parse_spice(read_json(scores_path), len(entries))


def find_java() -> str | None:
    return shutil.which("java")


def find_packaged_file(package: str, name: str) -> Path | None:
    """Return a file that an installed package contains, or None; the package itself is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return None
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _meteor_jar() -> Path | None:
    return find_packaged_file("pycocoevalcap.meteor", "meteor-1.5.jar")


def _text(tokens: Sequence[str]) -> str:
    return " ".join(token for token in tokens if set(token) != {"|"})


def _parse_spice(answer: object, num_images: int) -> np.ndarray:
    values = np.full(num_images, np.nan)
    try:
        assert isinstance(answer, list)
        for entry in answer:
            f_score = entry["scores"]["All"]["f"]
            values[int(entry["image_id"])] = np.nan if f_score is None else float(f_score)
    except (KeyError, TypeError, IndexError, ValueError):
        raise InputError(f"SPICE: unexpected output: {json.dumps(answer)[:80]}") from None
    return values
