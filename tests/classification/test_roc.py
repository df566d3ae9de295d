import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from seesay.classification.metrics import macro_curve, one_vs_rest
from seesay.classification.predictions import SplitPredictions


def predictions(num_images=60, num_classes=4):
    generator = np.random.default_rng(0)
    labels = np.arange(num_images) % num_classes
    logits = generator.normal(size=(num_images, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return SplitPredictions(logits.astype(np.float32), labels, tuple("abcd")[:num_classes])


def test_an_area_is_the_share_of_pairs_ranked_right():
    # Class a's images score 3 and 1, the others 2 and 0: three of four pairs are the right way round.
    logits = np.array([[3, 0], [1, 0], [2, 0], [0, 0]], dtype=np.float32)
    curves = one_vs_rest(SplitPredictions(logits, np.array([0, 0, 1, 1]), ("a", "b")))
    assert curves[0].area == pytest.approx(3 / 4)


def test_areas_are_those_of_scikit_learn():
    split = predictions()
    curves = one_vs_rest(split)
    theirs = roc_auc_score(split.labels, split.probabilities, multi_class="ovr", average="macro")
    assert np.mean([curve.area for curve in curves.values()]) == pytest.approx(theirs)


def test_classes_without_images_or_with_all_of_them_have_no_curve():
    split = predictions()
    some = split.labels < 2
    assert set(one_vs_rest(SplitPredictions(split.logits[some], split.labels[some], split.class_labels))) == {0, 1}
    only = split.labels == 2
    assert one_vs_rest(SplitPredictions(split.logits[only], split.labels[only], split.class_labels)) == {}


def test_the_mean_curve_rises_from_corner_to_corner_and_has_the_mean_area():
    curves = list(one_vs_rest(predictions()).values())
    mean = macro_curve(curves)
    assert (mean.false_positives[0], mean.true_positives[0]) == (0.0, 0.0)
    assert (mean.false_positives[-1], mean.true_positives[-1]) == (1.0, 1.0)
    assert (np.diff(mean.true_positives) >= 0).all()
    assert (np.diff(mean.false_positives) >= 0).all()
    assert mean.area == pytest.approx(np.mean([curve.area for curve in curves]))
    assert np.trapezoid(mean.true_positives, mean.false_positives) == pytest.approx(mean.area)


def test_the_mean_of_one_curve_is_that_curve():
    curve = one_vs_rest(predictions())[1]
    points = set(zip(curve.false_positives, curve.true_positives, strict=True))
    mean = macro_curve([curve])
    assert set(zip(mean.false_positives, mean.true_positives, strict=True)) <= points | {(0.0, 0.0)}
