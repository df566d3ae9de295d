"""How a Java scorer is run: found or not, talked to with a limit on time, and ended whatever happens."""

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


METEOR_TIME_LIMIT = 900.0
"""Seconds for all captions together: ten to load the paraphrases, then about 5 ms an image."""

_SEPARATOR = " ||| "


def why_no_meteor() -> str:
    """What METEOR lacks here, one sentence for people; "" where it can be had."""
    if find_java() is None:
        return "meteor_java is left out: no java on PATH"
    return "" if _jar() is not None else "meteor_java is left out: the package pycocoevalcap, which has it, is missing"


def open_meteor(*, seconds: float = METEOR_TIME_LIMIT) -> AbstractContextManager[LineProcess | None]:
    """METEOR as a process for any number of `meteor_java`, ended by the `with`; None where Java or the jar is missing.

    It loads while its caller does something else: open it early.
    """
    java, jar = find_java(), _jar()
    if java is None or jar is None:
        return nullcontext()
    command = [java, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    return LineProcess(command, name="meteor_java", seconds=seconds)


def meteor_java(
    predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]], *, process: LineProcess
) -> tuple[float, np.ndarray]:
    """METEOR of the corpus and of each image, float64 (N,), in [0, 1], higher is better; `process`: `open_meteor`'s.

    The corpus value comes from summed statistics and is not the images' mean. Tokens that are bars only are left out:
    "|||" separates the parts of METEOR's own input, and one in a reference would pass for the caption. A caption
    without tokens scores 0. Raises `InputError` when METEOR ends early or takes too long.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    statistics = [
        process.ask(_SEPARATOR.join(["SCORE", *map(_text, of_image), _text(tokens)]))
        for tokens, of_image in zip(predictions, references, strict=True)
    ]
    process.write(_SEPARATOR.join(["EVAL", *statistics]))
    values = np.array([float(process.read()) for _ in statistics])
    return float(process.read()), values


def _jar() -> Path | None:
    return find_packaged_file("pycocoevalcap.meteor", "meteor-1.5.jar")


def _text(tokens: Sequence[str]) -> str:
    return " ".join(token for token in tokens if set(token) != {"|"})


JAR = "spice-1.0.jar"
MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SPICE_TIME_LIMIT = 3600.0


def spice_command(folder: Path) -> list[str]:
    """How SPICE in `folder` is started; `InputError` naming the file that is missing."""
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
    """SPICE (F1) of each image's caption, float64 (N,), in [0, 1], higher is better; the corpus value is the mean.

    Takes captions as text (tokens joined by spaces, as coco-caption gives them). An image whose references name nothing
    has nan. Raises `InputError` when SPICE fails or takes longer than `seconds`.
    """
    with tempfile.TemporaryDirectory(prefix="seesay-spice-") as scratch:
        asked, answered = Path(scratch) / "captions.json", Path(scratch) / "scores.json"
        entries = [
            {"image_id": number, "test": caption, "refs": list(of_image)}
            for number, (caption, of_image) in enumerate(zip(predictions, references, strict=True))
        ]
        write_json(asked, entries)
        call = [*command, str(asked), "-out", str(answered), "-subset", "-silent"]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=seconds, check=False, cwd=scratch)
        except subprocess.TimeoutExpired:
            raise InputError(f"SPICE: not done within {seconds:g} s") from None
        if done.returncode != 0 or not answered.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise InputError(f"SPICE: ended with status {done.returncode}: {said[-1] if said else 'it said nothing'}")
        return _values(read_json(answered), len(entries))


def _values(answer: object, num_images: int) -> np.ndarray:
    values = np.full(num_images, np.nan)
    try:
        assert isinstance(answer, list)
        for entry in answer:
            found = entry["scores"]["All"]["f"]
            values[int(entry["image_id"])] = np.nan if found is None else float(found)
    except (KeyError, TypeError, IndexError, ValueError):
        raise InputError(f"SPICE: not the answer expected: {json.dumps(answer)[:80]}") from None
    return values
