"""How well words agree after stems, synonyms and paraphrases are matched: METEOR 1.5 (Denkowski and Lavie, 2014), in Java.

The jar and its paraphrases are those in the package pycocoevalcap; the scores carry `java` in their name, since only this
implementation gives them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seesay.evaluation.java import LineProcess, find_java, find_packaged_file

TIME_LIMIT = 600.0
"""Seconds for all captions together; 5,000 images take about a minute."""

_SEPARATOR = " ||| "


def meteor_command() -> list[str] | None:
    """How METEOR is started, None where Java or the jar is missing; `why_no_meteor` says which."""
    java, jar = find_java(), find_packaged_file("pycocoevalcap.meteor", "meteor-1.5.jar")
    if java is None or jar is None:
        return None
    return [java, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]


def why_no_meteor() -> str:
    """One sentence for people, "" where METEOR can be had."""
    if meteor_command() is not None:
        return ""
    missing = "no java on PATH" if find_java() is None else "the package pycocoevalcap is not installed"
    return f"meteor_java is left out: {missing}"


def meteor_java(
    predictions: Sequence[list[str]],
    references: Sequence[Sequence[list[str]]],
    *,
    command: Sequence[str],
    seconds: float = TIME_LIMIT,
) -> tuple[float, np.ndarray]:
    """METEOR of the corpus and of each image, float64 (N,), in [0, 1], higher is better; `command`: `meteor_command`.

    The corpus value comes from summed statistics and is not the images' mean. One process scores all. Tokens that are
    bars only are left out: "|||" separates the parts of METEOR's own input, and one in a reference would pass for the
    caption. A caption without tokens scores 0. Raises `InputError` when METEOR fails or takes longer than `seconds`.
    """
    assert len(predictions) == len(references), (len(predictions), len(references))
    with LineProcess(command, name="meteor_java", seconds=seconds) as process:
        statistics = [
            process.ask(_SEPARATOR.join(["SCORE", *map(_text, of_image), _text(tokens)]))
            for tokens, of_image in zip(predictions, references, strict=True)
        ]
        process.write(_SEPARATOR.join(["EVAL", *statistics]))
        values = np.array([float(process.read()) for _ in statistics])
        return float(process.read()), values


def _text(tokens: Sequence[str]) -> str:
    return " ".join(token for token in tokens if set(token) != {"|"})
