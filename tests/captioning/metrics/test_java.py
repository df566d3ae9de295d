"""METEOR and SPICE: how their processes are talked to and ended; the real METEOR where it is installed."""

import os
import shutil
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seesay.captioning.metrics import java as meteor
from seesay.captioning.metrics.java import (
    JAR,
    MODELS,
    LineProcess,
    find_packaged_file,
    meteor_java,
    open_meteor,
    spice_command,
    spice_java,
    why_no_meteor,
)
from seesay.core.errors import InputError

# Answers SCORE with the number of the caption's words, EVAL with each of them and their sum.
FAKE_METEOR = """
import sys
for line in sys.stdin:
    parts = line.rstrip("\\n").split(" ||| ")
    if parts[0] == "SCORE":
        print(len(parts) - 2, len(parts[-1].split()), flush=True)
    else:
        values = [float(part.split()[1]) for part in parts[1:]]
        print("\\n".join(map(str, [*values, sum(values)])), flush=True)
"""


def fake(code: str, *, seconds: float = 30.0) -> LineProcess:
    return LineProcess([sys.executable, "-c", code], name="fake", seconds=seconds)


def test_one_process_scores_any_number_of_sets() -> None:
    with fake(FAKE_METEOR) as process:
        for captions in ([["a", "dog"], []], [["a"] * 3000] * 40):
            total, values = meteor_java(captions, [[["a", "b"], ["c"]]] * len(captions), process=process)
            assert values.tolist() == [len(caption) for caption in captions]
            assert total == sum(values)


def test_bars_never_reach_meteors_separator() -> None:
    echo = "print(input(), flush=True)\nprint(input(), flush=True)\nprint(0, flush=True)"
    with pytest.raises(ValueError, match=r"EVAL \|\|\| SCORE \|\|\| a b \|\|\| dog'"), fake(echo) as process:
        meteor_java([["|||", "dog"]], [[["a", "|", "b"]]], process=process)


def test_a_process_that_answers_nothing_is_given_up_and_ended() -> None:
    started = time.monotonic()
    with (
        pytest.raises(InputError, match=r"fake: no answer within 0\.5 s"),
        fake("import time; time.sleep(60)", seconds=0.5) as process,
    ):
        process.ask("x")
    assert time.monotonic() - started < 30
    assert process._process.returncode is not None


def test_a_process_that_fails_says_why() -> None:
    with (
        pytest.raises(InputError, match=r"fake: ended early with status 3: no memory"),
        fake("import sys; print('no memory', file=sys.stderr); sys.exit(3)") as process,
    ):
        process.ask("x")


def test_without_java_or_its_package_meteor_is_left_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor, "find_java", lambda: None)
    assert why_no_meteor() == "meteor_java is left out: no java on PATH"
    with open_meteor() as process:
        assert process is None
    monkeypatch.setattr(meteor, "find_java", lambda: "/usr/bin/java")
    monkeypatch.setattr(meteor, "_meteor_jar", lambda: None)
    assert "pycocoevalcap" in why_no_meteor()


def test_files_beside_packages_are_found_or_not() -> None:
    assert find_packaged_file("seesay.captioning.metrics", "java.py") == Path(meteor.__file__)
    assert find_packaged_file("seesay.captioning.metrics", "no.jar") is None
    assert find_packaged_file("no_such_package.meteor", "x.jar") is None


@pytest.mark.skipif(bool(why_no_meteor()), reason="no Java, or no pycocoevalcap")
def test_real_meteor_gives_the_references_own_words_one() -> None:
    with open_meteor() as process:
        assert process is not None
        references = [[["a", "dog", "runs"], ["the", "dog"]], [["two", "cats"]], [["a", "|||", "bird"]]]
        total, values = meteor_java([["a", "dog", "runs"], ["a", "house"], []], references, process=process)
    assert values[0] == pytest.approx(1.0)
    assert values[1:].tolist() == [0.0, 0.0]
    assert 0 < total < 1


def supplied(folder: Path) -> Path:
    (folder / "lib").mkdir()
    for path in (folder / JAR, *(folder / "lib" / name for name in MODELS)):
        path.write_bytes(b"")
    return folder


def test_spice_names_the_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spice-1.0.jar: no such file"):
        spice_command(tmp_path)
    (supplied(tmp_path) / "lib" / MODELS[1]).unlink()
    with pytest.raises(InputError, match=r"models.jar: no such file"):
        spice_command(tmp_path)


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java")
def test_spice_is_started_from_its_folder(tmp_path: Path) -> None:
    assert str(supplied(tmp_path) / JAR) in spice_command(tmp_path)


def script(path: Path, code: str) -> list[str]:
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [os.fspath(path)]


def test_spice_reads_each_images_f_score(tmp_path: Path) -> None:
    command = script(
        tmp_path / "spice",
        """import json, sys
entries = json.load(open(sys.argv[1]))
assert sys.argv[2] == "-out"
f = {"a dog": 0.5, "": None}
scores = [{"image_id": e["image_id"], "scores": {"All": {"f": f[e["test"]]}}} for e in entries]
json.dump(scores[::-1], open(sys.argv[3], "w"))
""",
    )
    values = spice_java(["a dog", ""], [["a cat"], ["a"]], command=command)
    np.testing.assert_array_equal(values, [0.5, np.nan])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('out of memory')", "SPICE: ended with status 1: out of memory"),
        ("import sys; open(sys.argv[3], 'w').write('[{}]')", "SPICE: unexpected output"),
        ("import time; time.sleep(60)", "SPICE: not done within 1 s"),
    ],
)
def test_a_spice_that_fails_says_why(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spice_java(["a"], [["b"]], command=script(tmp_path / "spice", code), seconds=1.0)
