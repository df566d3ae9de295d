import pytest

from seesay.captioning.compare import (
    ScoredCaption,
    ScoredPredictions,
    captioner_row,
    compare_ranked,
    count_references,
    floor_rows,
    ranked,
    score_candidates,
    spread_over_seeds,
)
from seesay.captioning.data.records import CaptionRecord
from seesay.params.project import load_params

RECORDS = [
    CaptionRecord(number, f"{number}.jpg", "", "test", (text, f"{text} today"), 10, 10)
    for number, text in enumerate(["a dog runs on the green grass", "two men play a guitar", "a red car on a street"])
]


def prediction(image_id, *captions):
    alternatives = [{"caption": caption, "log_probability": -1.0 - rank} for rank, caption in enumerate(captions)]
    return {"image_id": image_id, "caption": captions[0], "alternatives": alternatives}


def test_each_alternative_is_scored_as_if_it_were_the_caption():
    references = count_references(RECORDS)
    right, wrong = "two men play a guitar", "a red car on a street"
    predictions = [
        prediction(0, "a dog", "a dog runs on the green grass"),
        prediction(1, wrong, right, "two"),
        {"image_id": 2, "caption": "a street"},
    ]
    found = score_candidates("cell", predictions, RECORDS, references)
    other = score_candidates("cell", [predictions[0], prediction(1, right), predictions[2]], RECORDS, references)
    assert [one.caption for one in found.alternatives[1]] == [wrong, right, "two"]
    assert found.alternatives[1][0].cider_d == found.chosen[1].cider_d
    assert found.alternatives[1][1].cider_d == other.chosen[1].cider_d > found.chosen[1].cider_d
    assert found.alternatives[0][1].log_probability == -2.0
    assert 2 not in found.alternatives


def test_the_drop_is_the_share_lost_with_another_image_in_each_ones_place():
    row = captioner_row("a", "d", {"test/cider_d": 0.5, "test_shuffled/cider_d": 0.1}, looks_at="grid")
    assert row["shuffled_drop"] == pytest.approx(0.8)
    assert row["looks_at"] == "grid"
    assert "shuffled_drop" not in captioner_row("a", "d", {"test/cider_d": 0.0, "test_shuffled/cider_d": 0.0})


def test_every_floor_is_one_row_per_dataset():
    """Only the nearest neighbour has a row for each feature array."""
    scores = {"floor_constant/cider_d": 0.1, "floor_nearest/cider_d": 0.2, "human/cider_d": 0.8, "human/bleu4": 0.2}
    metrics = {"a": scores, "b": scores, "c": scores | {"floor_nearest/cider_d": 0.15}}
    rows = floor_rows("d", metrics, {"a": "mobilenet", "b": "mobilenet", "c": "resnet9"})
    assert [(row["cell"], row["test/cider_d"]) for row in rows] == [
        ("best constant caption", 0.1),
        ("nearest neighbour (mobilenet)", 0.2),
        ("nearest neighbour (resnet9)", 0.15),
        ("human", 0.8),
    ]


def captioned(cell, values):
    return ScoredPredictions(cell, {number: ScoredCaption("", value) for number, value in enumerate(values)}, {})


def test_each_captioner_is_tested_against_the_next_in_the_ranking():
    rows = [
        {"cell": cell, "dataset": "d", "set": "test", "test/cider_d": value}
        for cell, value in (("worst", 0.1), ("best", 0.9), ("middle", 0.5))
    ]
    scores = {"worst": [0.1] * 40, "middle": [0.4, 0.6] * 20, "best": [0.8, 1.0] * 20}
    tests = compare_ranked(
        rows, {cell: captioned(cell, values) for cell, values in scores.items()}, resamples=200, seed=0
    )
    assert [row["cell"] for row in ranked(rows)] == ["best", "middle", "worst"]
    assert {cell: test["next"] for cell, test in tests.items()} == {"best": "middle", "middle": "worst"}
    # every image differs by 0.4, so does every resample
    assert tests["best"]["next/difference"] == pytest.approx(0.4)
    assert tests["best"]["next/difference_low"] == pytest.approx(0.4)
    assert tests["best"]["next/p"] < 0.05


def test_captioners_that_differ_in_their_seed_alone_have_a_mean(built_once):
    """Those that learn by reward differ in the captioner they start from, too, which differs in its seed alone."""
    first = load_params(built_once).captioners["lstm_flickr8k"]

    def other(**learning):
        return first.model_copy(update={"learning": first.learning.model_copy(update=learning)})

    longer = first.decoding.model_copy(update={"max_length": 30})
    cells = {
        "first": first,
        "smoothed": other(label_smoothing=0.2),
        "second": other(seed=1),
        "longer": first.model_copy(update={"decoding": longer}),
        "reward": other(start=("captioners/first",)),
        "second_reward": other(start=("captioners/second",), seed=1),
        "smoothed_reward": other(start=("captioners/smoothed",), seed=2),
    }
    scores = dict(zip(cells, (0.4, 0.9, 0.5, 0.9, 0.6, 0.6, 0.9), strict=True))
    found = spread_over_seeds([{"cell": cell, "test/cider_d": value} for cell, value in scores.items()], cells)
    assert set(found) == {"first", "reward"}
    assert found["first"] == {
        "seeds/num": 2,
        "seeds/test/cider_d_mean": pytest.approx(0.45),
        "seeds/test/cider_d_std": pytest.approx(0.1 / 2**0.5),
    }
    assert found["reward"]["seeds/test/cider_d_std"] == 0.0
