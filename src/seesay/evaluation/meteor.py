"""How well words agree, stems, synonyms and paraphrases too: METEOR 1.5 (Denkowski and Lavie, 2014), in Java.

The jar and its paraphrases are those in the package pycocoevalcap; the scores carry `java` in their name, since only
this implementation gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from seesay.evaluation.java import LineProcess, find_java, find_packaged_file

TIME_LIMIT = 900.0
"""Seconds for all captions together: ten to load the paraphrases, then about 5 ms an image."""

_SEPARATOR = " ||| "


def why_no_meteor() -> str:
    """What METEOR lacks here, one sentence for people; "" where it can be had."""
    if find_java() is None:
        return "meteor_java is left out: no java on PATH"
    return "" if _jar() is not None else "meteor_java is left out: the package pycocoevalcap, which has it, is missing"


def open_meteor(*, seconds: float = TIME_LIMIT) -> AbstractContextManager[LineProcess | None]:
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
