"""How well the things, attributes and relations that captions name agree: SPICE 1.0 (Anderson et al., 2016), in Java.

Its files (spice-1.0.jar, and lib/ with Stanford CoreNLP's models) are supplied by the user: nothing is downloaded.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seesay.errors import InputError
from seesay.evaluation.java import find_java
from seesay.files import read_json, write_json

JAR = "spice-1.0.jar"
MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
TIME_LIMIT = 3600.0


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
    seconds: float = TIME_LIMIT,
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
