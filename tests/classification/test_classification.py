import math

import numpy as np
import pytest

from seesay.classification.metrics import (
    average_probabilities,
    classification_metrics,
    confusion_table,
    cross_entropy,
    per_class_table,
    seed_metrics,
    top_accuracy,
)
from seesay.classification.predictions import ClassPredictions, SplitPredictions


@pytest.fixture
def split():
    """Four images of three classes: predicted a, b, b, a; true a, b, a, c."""
    logits = np.array([[2, 1, 0], [0, 3, 1], [1, 2, 0], [5, 0, 4]], dtype=np.float32)
    return SplitPredictions(logits, np.array([0, 1, 0, 2]), ("a", "b", "c"))


def six_classes(*places):
    """One image per entry: its label, class 0, has that many classes ahead of it."""
    logits = np.zeros((len(places), 6), dtype=np.float32)
    for row, place in enumerate(places):
        logits[row, 1 : 1 + place] = 1.0
        logits[row, 1 + place :] = -1.0
    return SplitPredictions(logits, np.zeros(len(places), dtype=np.int64), tuple("abcdef"))


def test_accuracy_counts_the_largest_k(split):
    assert top_accuracy(split, k=1) == 0.5
    assert top_accuracy(split, k=2) == 1.0
    assert top_accuracy(six_classes(0, 1, 4, 5), k=5) == 0.75


def test_of_equal_logits_the_first_class_counts_more():
    tied = SplitPredictions(np.zeros((2, 3), dtype=np.float32), np.array([0, 1]), ("a", "b", "c"))
    assert top_accuracy(tied, k=1) == 0.5
    assert top_accuracy(tied, k=2) == 1.0
    assert tied.predicted.tolist() == [0, 0]


def test_cross_entropy_is_the_one_worked_by_hand():
    logits = np.array([[0.0, 0.0], [math.log(3.0), 0.0]], dtype=np.float32)
    split = SplitPredictions(logits, np.array([0, 1]), ("a", "b"))
    assert cross_entropy(split) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_cross_entropy_of_huge_logits_is_finite():
    split = SplitPredictions(np.array([[1e30, 0.0]], dtype=np.float32), np.array([0]), ("a", "b"))
    assert cross_entropy(split) == 0.0


def test_probabilities_add_up_to_one(split):
    assert split.probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    assert split.probabilities[0] == pytest.approx(np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum())


def test_per_class_table(split):
    # a: 1 of 2 predicted right, 1 of 2 found; b: 1 of 2, 1 of 1: f1 2/3; c: never predicted
    assert per_class_table(split) == (
        "class_index,label,precision,recall,f1,support\n"
        "0,a,0.500000,0.500000,0.500000,2\n"
        "1,b,0.500000,1.000000,0.666667,1\n"
        "2,c,0.000000,0.000000,0.000000,1\n"
    )


def test_confusion_table_has_a_row_per_image(split):
    assert confusion_table(split) == "actual,predicted\na,a\nb,b\na,b\nc,a\n"


def test_classes_that_share_a_word_stay_apart_and_commas_are_quoted():
    split = SplitPredictions(np.eye(3, dtype=np.float32), np.array([0, 1, 2]), ("crane", "crane", "a, b"))
    assert confusion_table(split).splitlines()[1:] == ["crane (0),crane (0)", "crane (1),crane (1)", '"a, b","a, b"']
    assert [line.split(",")[1] for line in per_class_table(split).splitlines()[1:3]] == ["crane (0)", "crane (1)"]


def metrics_of(val, test):
    return classification_metrics(ClassPredictions(val=val, test=test), bootstrap_resamples=20, bootstrap_seed=0)


def test_metrics_have_their_keys_and_top5_only_where_it_means_something(split):
    metrics = metrics_of(split, split)
    assert set(metrics) == {
        *("val/top1", "val/loss", "test/top1", "test/loss", "test/macro_f1", "test/num_images"),
        *(
            "val/macro_f1",
            "val/balanced_accuracy",
            "test/balanced_accuracy",
            "test/auc_macro",
            "test/top1_low",
            "test/top1_high",
        ),
        *("calibration/temperature", "test/ece", "test/ece_calibrated", "test/loss_calibrated"),
    }
    assert metrics["test/macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert metrics["test/num_images"] == 4
    six = six_classes(0, 5)
    metrics = metrics_of(six, six)
    assert (metrics["test/top1"], metrics["test/top5"], metrics["val/top5"]) == (0.5, 0.5, 0.5)
    assert all(type(value) is float for value in metrics.values())


def test_balanced_accuracy_is_the_mean_recall_over_classes_with_images(split):
    # a: 1 of 2, b: 1 of 1, c: 0 of 1
    assert metrics_of(split, split)["test/balanced_accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    only_a = SplitPredictions(split.logits[:1], split.labels[:1], split.class_labels)
    assert metrics_of(only_a, only_a)["test/balanced_accuracy"] == 1.0


def test_an_area_that_cannot_be_measured_has_no_key(split):
    only_a = SplitPredictions(split.logits[:1], split.labels[:1], split.class_labels)
    assert "test/auc_macro" not in metrics_of(split, only_a)


def test_the_temperature_comes_from_val_and_changes_no_decision(split):
    wrong = SplitPredictions(10 * split.logits, (split.labels + 1) % 3, split.class_labels)
    metrics = metrics_of(wrong, split)
    assert metrics["calibration/temperature"] > 10, "val says: never be sure"
    assert metrics["test/top1"] == 0.5
    assert metrics["test/loss_calibrated"] == pytest.approx(math.log(3), rel=0.1)


def test_spread_over_seeds_is_the_sample_standard_deviation(split):
    right = SplitPredictions(np.eye(3, dtype=np.float32)[split.labels], split.labels, split.class_labels)
    networks = [ClassPredictions(val=right, test=one) for one in (split, right, split)]
    metrics = seed_metrics(networks)
    # top-1 of 1/2, 1 and 1/2: mean 2/3, squares of the distances 1/36, 4/36, 1/36, divided by 2
    assert metrics["seeds/num"] == 3.0
    assert metrics["seeds/test/top1_mean"] == pytest.approx(2 / 3)
    assert metrics["seeds/test/top1_std"] == pytest.approx(math.sqrt(6 / 36 / 2))
    assert (metrics["seeds/val/top1_mean"], metrics["seeds/val/top1_std"]) == (1.0, 0.0)
    assert seed_metrics(networks[:1]) == {}


def test_answers_are_averaged_as_probabilities():
    sure, unsure = (
        SplitPredictions(np.log(np.array([shares], dtype=np.float32)), np.array([0]), ("a", "b"))
        for shares in ([0.9, 0.1], [0.2, 0.8])
    )
    assert average_probabilities(sure, unsure).probabilities[0] == pytest.approx([0.55, 0.45])
