"""Scoring any files in COCO's formats: what comes out, and what is refused in which words."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seesay.captioning.metrics.java import why_no_meteor
from seesay.captioning.score_files import read_references, score_files
from seesay.cli import main
from seesay.core.errors import InputError

GOLDEN = Path(__file__).resolve().parents[3] / "shared/golden"
REFERENCES = {
    7: ["A dog runs.", "The brown dog is running"],
    3: ["Two cats on a mat"],
    5: ["A man (in red) surfs", "a surfer"],
}
RESULTS: list[Any] = [
    {"image_id": 3, "caption": "two cats"},
    {"image_id": 7, "caption": "A dog runs!"},
    {"image_id": 5, "caption": "", "score": 0.1},
]


def annotations(captions: dict[Any, list[str]]) -> dict[str, Any]:
    return {
        "images": [{"id": image_id} for image_id in captions],
        "annotations": [{"image_id": i, "caption": text} for i, texts in captions.items() for text in texts],
    }


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes references and results; gives their paths."""

    def write(references: object = None, results: object = None) -> tuple[Path, Path]:
        paths = tmp_path / "refs.json", tmp_path / "results.json"
        given = (annotations(REFERENCES) if references is None else references, RESULTS if results is None else results)
        for path, value in zip(paths, given, strict=True):
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return paths

    return write


def score(paths: tuple[Path, Path], **options: Any) -> dict[str, Any]:
    chosen = {"resamples": None, "seed": 0, "with_meteor": False, "spice_dir": None, **options}
    return score_files(*paths, **chosen).to_json()


def test_files_are_matched_by_image_id_whatever_their_order(files: Callable[..., tuple[Path, Path]]) -> None:
    found = score(files())
    assert (found["num_images"], found["num_references"]) == (3, 5)
    # closest references: 2 tokens against 5, 3 against 3, 0 against 2 of the shorter: 5 tokens of 10
    assert found["metrics"]["length_ratio"] == pytest.approx(5 / 10)
    assert found == score(files(results=RESULTS[::-1]))
    assert found == score(files(references=annotations(dict(sorted(REFERENCES.items())))))


def test_intervals_are_there_when_asked_for(files: Callable[..., tuple[Path, Path]]) -> None:
    plain, with_intervals = score(files())["metrics"], score(files(), resamples=100)["metrics"]
    assert set(with_intervals) - set(plain) == {
        f"{name}_{end}" for name in ("bleu4", "rouge_l", "cider_d") for end in ("low", "high")
    }
    assert plain.items() <= with_intervals.items()


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([*RESULTS, {"image_id": 9, "caption": "a"}], r"results.json: entry 3: image 9 is not in .*refs.json"),
        ([*RESULTS, RESULTS[0]], "results.json: entry 3: image 3 has two captions, expected one"),
        (RESULTS[:1], r"results.json: 2 \(image 7, 5\) of 3 images in .*refs.json have no caption"),
        ([], "results.json: expected a caption for each of 3 images, got an empty list"),
        ({"test": RESULTS}, "results.json: expected a list of {image_id, caption}, got dict"),
        ([{"image_id": "3", "caption": "a"}], r"results.json: entry 0: image '3' is not in .*refs.json"),
        (
            [{"image_id": 3.5, "caption": "a"}],
            "results.json: entry 0: image_id: got 3.5: expected a whole number or text",
        ),
        ([{"image_id": True, "caption": "a"}], "results.json: entry 0: image_id: got True: expected a whole number"),
        ('[{"image_id": NaN}]', "results.json: entry 0: image_id: got nan: expected a whole number or text"),
        (f"[{'9' * 5000}]", "results.json: not readable JSON: a number has too many digits"),
        ([{"image_id": int("9" * 4000)}], r"results.json: entry 0: image 9{40}\.\.\. is not in"),
        ("[" * 100_000 + "]" * 100_000, "results.json: not readable JSON: nested too deeply"),
        ('[{"image_id": "\\ud800"}]', "results.json: entry 0: image '\ufffd' is not in"),
        ([{"image_id": 3, "caption": None}], "results.json: entry 0: image 3: caption: got None: expected text"),
        (["a dog"], "results.json: entry 0: image_id: got 'a dog': expected an object with image_id"),
        ("[{", "results.json: not valid JSON"),
    ],
)
def test_results_that_do_not_fit_are_refused(
    files: Callable[..., tuple[Path, Path]], results: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score(files(results=results))


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([], "refs.json: expected an object with the lists images and annotations"),
        ({"images": [], "annotations": []}, "refs.json: images: expected at least one image"),
        (
            {"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "a"}]},
            "refs.json: annotations: entry 0: image 2 is not among the file's images",
        ),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "refs.json: images: image 1 is listed twice"),
        ({"images": [{"id": True}], "annotations": []}, "refs.json: images: entry 0: id: got True"),
    ],
)
def test_references_that_are_none_are_refused(
    files: Callable[..., tuple[Path, Path]], references: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_references(files(references=references)[0])


def test_a_byte_order_mark_and_a_lone_surrogate_change_nothing(files: Callable[..., tuple[Path, Path]]) -> None:
    plain = score(files())
    with_surrogate = [{**result, "caption": f"\udfff {result['caption']}"} for result in RESULTS]
    paths = files(
        results="\ufeff" + json.dumps(with_surrogate), references="\ufeff" + json.dumps(annotations(REFERENCES))
    )
    assert score(paths) == plain


def test_ids_may_be_text_or_whole_numbers_written_as_floats(files: Callable[..., tuple[Path, Path]]) -> None:
    plain = score(files())
    floats = [{**result, "image_id": float(result["image_id"])} for result in RESULTS]
    assert score(files(results=floats)) == plain
    texts = [{**result, "image_id": str(result["image_id"])} for result in RESULTS]
    assert score(files(annotations({str(i): c for i, c in REFERENCES.items()}), texts)) == plain
    mixed = {"7": REFERENCES[7], 3: REFERENCES[3], 5: REFERENCES[5]}
    assert score(files(annotations(mixed), [RESULTS[0], texts[1], RESULTS[2]]))["num_images"] == 3


def test_only_predicted_images_are_scored_when_asked_for(files: Callable[..., tuple[Path, Path]]) -> None:
    of_two = score(files(results=RESULTS[:2]), only_predicted=True)
    assert (of_two["num_images"], of_two["num_without_prediction"], of_two["num_references"]) == (2, 1, 3)
    alone = score(files({**annotations({i: REFERENCES[i] for i in (7, 3)})}, RESULTS[:2]))
    assert alone["num_without_prediction"] == 0
    assert of_two["metrics"] == alone["metrics"]


def test_an_image_that_is_not_scored_needs_no_reference(files: Callable[..., tuple[Path, Path]]) -> None:
    of_all = score(files())
    paths = files(annotations({**REFERENCES, 9: []}))
    assert score(paths, only_predicted=True) == {**of_all, "num_without_prediction": 1}
    with pytest.raises(InputError, match=r"results.json: 1 \(image 9\) of 4 images in .*refs.json have no caption"):
        score(paths)


def test_references_without_a_word_are_refused(files: Callable[..., tuple[Path, Path]]) -> None:
    paths = files(annotations({**REFERENCES, 5: ["...", ""]}))
    with pytest.raises(
        InputError, match=r"refs.json: annotations: 1 \(image 5\) of 3 images have no caption with a word"
    ):
        score(paths)
    for only_predicted in (False, True):
        with pytest.raises(InputError, match=r"1 \(image 5\) of 3 images have no caption with a word"):
            score(files(annotations({**REFERENCES, 5: []})), only_predicted=only_predicted)
    assert score(files(annotations({**REFERENCES, 5: ["...", "a surfer"]})))["num_references"] == 5


def test_a_last_letter_is_judged_by_the_next_caption_in_the_file(files: Callable[..., tuple[Path, Path]]) -> None:
    references = annotations({9: ["a white t"], 1: ["A dog runs"], 4: ["the end"]})
    captions = {4: "the end", 1: "A dog runs", 9: "a white t."}
    results = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    assert score(files(references, results))["metrics"]["bleu1"] == pytest.approx(1.0)  # 9 is before 1 in the file
    references["images"].reverse()
    assert score(files(references, results))["metrics"]["bleu1"] == pytest.approx(7 / 8)  # "t." at the end


def run(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_the_command_prints_a_table_and_writes_json(
    files: Callable[..., tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    references, results = files()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEESAY_SPICE_DIR", raising=False)
    call = ["score", "--references", str(references), "--predictions", str(results), "--out", "scores.json"]
    assert run([*call, "--resamples", "20"]) == 0
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "scores.json").read_text())
    assert "results.json against refs.json: 3 images, 5 references" in printed
    assert f"{written['metrics']['cider_d']:.5f}" in printed
    results.write_text("[]")
    assert run(call) == 1
    assert f"seesay: error: {results}: expected a caption for each of 3 images" in capsys.readouterr().err


def test_the_table_explains_what_a_reader_might_stumble_over(
    files: Callable[..., tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    references, results = files(results=RESULTS[:1])
    call = ["score", "--references", str(references), "--predictions", str(results)]
    assert run(call) == 1
    assert "`seesay score --images predicted` leaves them out" in capsys.readouterr().err
    assert run([*call, "--images", "predicted"]) == 0
    printed = capsys.readouterr().out
    assert "2 images of refs.json are left out: no prediction" in printed
    assert "always 0 for one image" in printed
    files()
    assert run(call) == 0
    printed = capsys.readouterr().out
    assert "left out" not in printed
    assert "always 0" not in printed


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_ends_the_command_quietly(
    files: Callable[..., tuple[Path, Path]], unbuffered: str
) -> None:
    references, results = files()
    code = "import sys; from seesay.cli import main; sys.stdin.read(); main(sys.argv[1:])"
    call = ["score", "--references", str(references), "--predictions", str(results)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *call],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, printed = process.communicate()
    assert printed == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_spice_without_its_files_is_refused_naming_them(
    files: Callable[..., tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    references, results = files()
    monkeypatch.setenv("SEESAY_SPICE_DIR", str(tmp_path / "spice"))
    assert run(["score", "--references", str(references), "--predictions", str(results)]) == 1
    assert f"{tmp_path / 'spice/spice-1.0.jar'}: no such file" in capsys.readouterr().err


@pytest.mark.skipif(not why_no_meteor(), reason="METEOR is here")
def test_meteor_that_cannot_be_had_is_said_once_and_left_out(
    files: Callable[..., tuple[Path, Path]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEESAY_SPICE_DIR", raising=False)
    references, results = files()
    assert run(["score", "--references", str(references), "--predictions", str(results), "--meteor"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("meteor_java is left out") == 1
    assert "meteor_java" not in printed.out


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no ../shared/golden beside the repository")
def test_the_golden_files_score_what_the_reference_scorer_gives() -> None:
    found = score((GOLDEN / "captions_karpathy_test.json", GOLDEN / "results_magic.json"))["metrics"]
    names = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d")
    expected = [0.56820, 0.35764, 0.21417, 0.12878, 0.39879, 0.49289]
    assert [found[name] for name in names] == pytest.approx(expected, abs=5e-6)
