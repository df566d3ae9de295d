import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from seesay.captioning.data.records import CaptionRecord, CaptionRecords, collect_records
from seesay.captioning.metrics.baselines import best_constant_caption, random_captions
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.image_scores import ImageScores, corpus_scores, write_image_scores
from seesay.captioning.predictions import (
    SPLIT_OF_SET,
    read_caption_predictions,
    write_caption_predictions,
)
from seesay.captioning.score import score_all
from seesay.core.errors import InputError
from seesay.params.results import Evaluation
from seesay.sources.provenance import SourceNote

SETTINGS = Evaluation(batch_size=1, panel_images=1, panel_seed=0, bootstrap_resamples=50, bootstrap_seed=0)
THINGS = ("dog", "cat", "horse", "bird", "cow", "fish")


def dataset(*, test_captions: int = 2) -> CaptionRecords:
    records = []
    for number, thing in enumerate(THINGS):
        texts = (f"A {thing} runs in the grass.", f"a small {thing} on a field", f"the {thing} is outside")
        for offset, split in enumerate(("train", "val", "test")):
            kept = texts[:test_captions] if split == "test" else texts
            records.append(CaptionRecord(100 * offset + number, f"{number}.jpg", "", split, kept, 1, 1))
    return collect_records("toy", records, SourceNote("toy", ()))


def predictions(captions: CaptionRecords, *, shift: int = 1) -> dict:  # type: ignore[type-arg]
    """Right captions; `test_shuffled` has the caption of another image."""
    sets = {}
    for name, split in SPLIT_OF_SET.items():
        records = captions.of(split)
        moved = shift if name == "test_shuffled" else 0
        texts = [records[(row + moved) % len(records)].captions[0] for row in range(len(records))]
        sets[name] = [{"image_id": r.image_id, "caption": text} for r, text in zip(records, texts, strict=True)]
    return sets


def test_every_set_has_every_metric_and_floors_lie_below() -> None:
    scores = score_all(predictions(dataset()), dataset(), seed=0, evaluation=SETTINGS)
    metrics = scores.metrics()
    names = {"test", "val", "test_shuffled", "floor_constant", "floor_random", "human", "test_like_human"}
    if "nearest_neighbour" in SPLIT_OF_SET:
        names.add("floor_nearest")
    with_interval = ("bleu4", "rouge_l", "cider_d")
    values = (
        *(
            "bleu1",
            "bleu2",
            "bleu3",
            *with_interval,
            *(f"{name}_{end}" for name in with_interval for end in ("low", "high")),
        ),
        *("embedding_cosine", "embedding_cosine_random", "mean_length", "std_length", "length_ratio"),
        *("distinct1", "distinct2", "vocabulary_size", "share_vocabulary", "share_novel", "num_references"),
    )
    assert set(metrics) == {f"{name}/{value}" for name in names for value in values}
    assert metrics["test/bleu4"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["test/mean_length"] == 6.0
    assert metrics["test/vocabulary_size"] == len(THINGS) + 5
    assert metrics["test/share_novel"] == 0.0  # the toy's test captions are its training captions
    for floor in ("test_shuffled", "floor_constant", "floor_random"):
        assert metrics[f"{floor}/cider_d"] < metrics["test/cider_d"]


def test_values_of_single_images_average_to_the_sets_value() -> None:
    scores = score_all(predictions(dataset()), dataset(), seed=0, evaluation=SETTINGS)
    assert list(scores.per_image) == [record.image_id for record in dataset().of("test")]
    assert sum(scores.per_image.values()) / len(scores.per_image) == pytest.approx(scores.metrics()["test/cider_d"])


def test_the_table_has_a_row_for_each_set() -> None:
    scores = score_all(predictions(dataset()), dataset(), seed=0, evaluation=SETTINGS)
    rows = list(csv.DictReader(io.StringIO(scores.table())))
    assert [row["set"] for row in rows] == list(scores.sets)
    assert float(rows[0]["cider_d"]) == pytest.approx(scores.sets["test"]["cider_d"], rel=1e-5)


def test_people_are_a_row_only_where_every_test_image_has_two_captions() -> None:
    captions = dataset(test_captions=1)
    sets = score_all(predictions(captions), captions, seed=0, evaluation=SETTINGS).sets
    assert not {"human", "test_like_human"} & set(sets)


def test_people_and_the_model_beside_them_face_the_same_references() -> None:
    sets = score_all(predictions(dataset(test_captions=3)), dataset(test_captions=3), seed=0, evaluation=SETTINGS).sets
    assert sets["test"]["num_references"] == 3.0
    assert sets["human"]["num_references"] == sets["test_like_human"]["num_references"] == 2.0
    # the toy's prediction is the first reference: what people score
    same = [name for name in sets["human"] if sets["human"][name] != sets["test_like_human"][name]]
    assert same == []


def test_intervals_hold_their_values_and_images_give_them_again(tmp_path: Path) -> None:
    scores = score_all(predictions(dataset(), shift=2), dataset(), seed=0, evaluation=SETTINGS)
    for name in ("bleu4", "rouge_l", "cider_d"):
        of_random = scores.sets["floor_random"]
        assert of_random[f"{name}_low"] <= of_random[name] + 1e-9
        assert of_random[f"{name}_high"] >= of_random[name] - 1e-9
    write_image_scores(tmp_path / "scores.csv", scores.image_ids, scores.images)
    table = np.loadtxt(tmp_path / "scores.csv", delimiter=",", skiprows=1)
    assert table[:, 0].tolist() == list(scores.image_ids)
    images = ImageScores(bleu=table[:, 4:], rouge_l=table[:, 2], cider_d=table[:, 3])
    assert corpus_scores(images) == {name: scores.sets["test"][name] for name in corpus_scores(images)}


def test_scores_depend_on_the_seed_only_through_the_random_floor() -> None:
    first = score_all(predictions(dataset()), dataset(), seed=0, evaluation=SETTINGS)
    assert first == score_all(predictions(dataset()), dataset(), seed=0, evaluation=SETTINGS)
    other = score_all(predictions(dataset()), dataset(), seed=1, evaluation=SETTINGS)
    drawn = ("embedding_cosine", "embedding_cosine_random")
    kept = [
        {name: {k: v for k, v in values.items() if k not in drawn} for name, values in scores.sets.items()}
        for scores in (first, other)
    ]
    changed = {name for name in first.sets if kept[0][name] != kept[1][name]}
    assert changed == {"floor_random"}, "and of the others the baseline of random pairs"


def test_the_constant_caption_is_the_best_on_val_among_training_captions() -> None:
    training = [text.split() for text in ("a dog runs", "a dog sits", "blue sky", "the cat")]
    val = CiderReferences([[["a", "dog", "sits"]], [["the", "sky"]], [["a", "dog", "sits", "here"]]])
    best = best_constant_caption(training, val)
    assert best == max(training, key=lambda tokens: val.score([tokens] * 3).mean()) == ["a", "dog", "sits"]


def test_the_constant_caption_never_looks_at_test() -> None:
    captions = dataset()
    odd = [
        r if r.split != "test" else CaptionRecord(r.image_id, r.file_name, "", "test", ("blue", "green sky"), 1, 1)
        for r in captions.records
    ]
    other = collect_records("toy", odd, captions.source)
    constants = [score_all(predictions(c), c, seed=0, evaluation=SETTINGS).constant_caption for c in (captions, other)]
    assert constants[0] == constants[1]


def test_random_captions_are_training_captions() -> None:
    training = [["a"], ["b"], ["c"]]
    drawn = random_captions(training, num_images=50, seed=3)
    assert {token for (token,) in drawn} == {"a", "b", "c"}
    assert drawn == random_captions(training, num_images=50, seed=3) != random_captions(training, num_images=50, seed=4)


def test_predictions_are_read_back_in_the_order_of_the_records(tmp_path: Path) -> None:
    expected = predictions(dataset())
    write_caption_predictions(tmp_path / "p.json", {name: results[::-1] for name, results in expected.items()})
    assert read_caption_predictions(tmp_path / "p.json", dataset()) == expected


def test_alternatives_are_kept(tmp_path: Path) -> None:
    expected = predictions(dataset())
    for each in expected["val"]:
        others = [{"caption": each["caption"], "log_probability": -1.5}, {"caption": "", "log_probability": -2.25}]
        each["alternatives"] = others
    write_caption_predictions(tmp_path / "p.json", expected)
    assert read_caption_predictions(tmp_path / "p.json", dataset()) == expected


@pytest.mark.parametrize(
    ("alternatives", "message"),
    [
        ([], "expected a list"),
        ("a", "expected a list"),
        (["a"], "entry 0: got a"),
        ([{"caption": "a"}], "entry 0"),
        ([{"caption": "a", "log_probability": True}], "entry 0"),
        ([{"caption": "a", "log_probability": -1}, {"caption": 3, "log_probability": -1}], "entry 1"),
        ([{"caption": "b", "log_probability": -1.0}], "entry 0: got 'b': expected the caption, 'a'"),
    ],
)
def test_wrong_alternatives_are_refused_naming_the_image(tmp_path: Path, alternatives: object, message: str) -> None:
    path = tmp_path / "p.json"
    results = [{"image_id": 200, "caption": "a", "alternatives": alternatives}]
    path.write_text(json.dumps({**predictions(dataset()), "test": results}))
    with pytest.raises(InputError, match=f"test: image 200: alternatives: .*{message}"):
        read_caption_predictions(path, dataset())


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "expected a list with one caption for each of 6 images"),
        ("all", "expected a list"),
        ([{"image_id": 777, "caption": "a dog"}], "image 777 is not in this split"),
        ([{"image_id": 100, "caption": "a dog"}], "image 100 is not in this split"),
        ([{"image_id": 200, "caption": "a"}, {"image_id": 200, "caption": "b"}], "image 200 has two captions"),
        ([{"image_id": 200, "caption": "a"}], "5 of 6 images have no caption: 201, 202"),
        ([{"image_id": 200, "caption": None}], "image 200: caption: got None"),
        ([{"caption": "a"}], "entry 0"),
        ([{"image_id": "200", "caption": "a"}], "entry 0"),
    ],
)
def test_wrong_predictions_are_refused_naming_set_and_image(tmp_path: Path, results: object, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**predictions(dataset()), "test": results}))
    with pytest.raises(InputError, match=f"test: .*{message}|test: {message}"):
        read_caption_predictions(path, dataset())


def test_a_file_without_every_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"test": []}))
    with pytest.raises(
        InputError, match="expected an object with the lists val, test, test_shuffled, nearest_neighbour"
    ):
        read_caption_predictions(tmp_path / "p.json", dataset())
