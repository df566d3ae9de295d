import math

import numpy as np
import pytest

from seesay.evaluation.class_predictions import ClassPredictions, SplitPredictions
from seesay.evaluation.classification import (
    classification_metrics,
    confusion_counts,
    confusion_table,
    cross_entropy,
    per_class_table,
    top_accuracy,
)


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
    assert confusion_counts(split).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_classes_that_share_a_word_stay_apart_and_commas_are_quoted():
    split = SplitPredictions(np.eye(3, dtype=np.float32), np.array([0, 1, 2]), ("crane", "crane", "a, b"))
    assert confusion_table(split).splitlines()[1:] == ["crane (0),crane (0)", "crane (1),crane (1)", '"a, b","a, b"']
    assert [line.split(",")[1] for line in per_class_table(split).splitlines()[1:3]] == ["crane (0)", "crane (1)"]


def test_metrics_have_their_keys_and_top5_only_where_it_means_something(split):
    metrics = classification_metrics(ClassPredictions(val=split, test=split))
    assert set(metrics) == {
        "val/top1",
        "val/loss",
        "test/top1",
        "test/loss",
        "test/macro_f1",
        "test/num_images",
    }
    assert metrics["test/macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert metrics["test/num_images"] == 4
    six = six_classes(0, 5)
    metrics = classification_metrics(ClassPredictions(val=six, test=six))
    assert (metrics["test/top1"], metrics["test/top5"], metrics["val/top5"]) == (0.5, 0.5, 0.5)
    assert all(type(value) is float for value in metrics.values())
