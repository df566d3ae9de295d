from dataclasses import replace

import numpy as np
import pytest

from seesay.classification.evaluate import evaluate_classifier, predict_split
from seesay.classification.networks.registry import restore_classifier
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.params.results import Evaluation

ARCHITECTURE = Architecture(name="mlp", hidden_sizes=[4], dropout=0.0)
SETTINGS = Evaluation(batch_size=5, panel_images=1, panel_seed=0, bootstrap_resamples=9, bootstrap_seed=0)


def test_the_first_network_is_judged_and_seeds_only_add_their_spread(make_images, new_checkpoint, compute):
    images = make_images()
    first, second = new_checkpoint(images, ARCHITECTURE), new_checkpoint(images, ARCHITECTURE, seed=1)
    predictions, alone = evaluate_classifier([first], images, SETTINGS, compute=compute)
    same, both = evaluate_classifier([first, second], images, SETTINGS, compute=compute)
    assert (same.test.logits == predictions.test.logits).all()
    assert {key: value for key, value in both.items() if not key.startswith("seeds/")} == alone
    assert both["seeds/num"] == 2.0
    _, other = evaluate_classifier([second], images, SETTINGS, compute=compute)
    assert both["seeds/val/top1_mean"] == pytest.approx((alone["val/top1"] + other["val/top1"]) / 2)


def test_the_mirror_image_counts_only_on_request(make_images, new_checkpoint, compute):
    """It then has a key of its own."""
    images = make_images()
    _, plain = evaluate_classifier([new_checkpoint(images, ARCHITECTURE)], images, SETTINGS, compute=compute)
    flipping = SETTINGS.model_copy(update={"test_time_flip": True})
    _, flipped = evaluate_classifier([new_checkpoint(images, ARCHITECTURE)], images, flipping, compute=compute)
    assert set(flipped) - set(plain) == {"test/top1_flipped"}
    assert {key: flipped[key] for key in plain} == plain


def test_images_that_look_the_same_mirrored_get_the_same_answer(make_images, new_checkpoint, compute):
    images = make_images()
    symmetric = images.test.images.copy()
    symmetric[:, :, 8:] = symmetric[:, :, 7::-1]
    images = replace(images, test=replace(images.test, images=symmetric))
    flipping = SETTINGS.model_copy(update={"test_time_flip": True})
    _, metrics = evaluate_classifier([new_checkpoint(images, ARCHITECTURE)], images, flipping, compute=compute)
    assert metrics["test/top1_flipped"] == metrics["test/top1"]


def test_a_network_of_other_classes_is_refused(make_images, new_checkpoint, compute):
    images = make_images()
    stranger = replace(new_checkpoint(images, ARCHITECTURE, seed=1), classes=("x", "y", "z"))
    with pytest.raises(InputError, match="class 0 is x"):
        evaluate_classifier([new_checkpoint(images, ARCHITECTURE), stranger], images, SETTINGS, compute=compute)


def test_six_views_count_only_on_request(make_images, new_checkpoint, compute):
    """They have a key of their own, and change no other."""
    images = make_images()
    checkpoint = new_checkpoint(images, ARCHITECTURE)
    _, plain = evaluate_classifier([checkpoint], images, SETTINGS, compute=compute)
    shifting = SETTINGS.model_copy(update={"test_time_shift": 1})
    _, shifted = evaluate_classifier([checkpoint], images, shifting, compute=compute)
    assert set(shifted) - set(plain) == {"test/top1_views"}
    assert {key: shifted[key] for key in plain} == plain


def test_a_shifted_view_starts_further_down_and_right(make_images, new_checkpoint, compute):
    """The pixels beyond the edges are those inside, mirrored."""
    images = make_images()
    classifier = restore_classifier(new_checkpoint(images, ARCHITECTURE))
    pixels = images.test.images
    for shift, rows in ((2, [*range(2, 16), 14, 13]), (-1, [1, *range(15)])):
        moved = replace(images.test, images=np.ascontiguousarray(pixels[:, rows][:, :, rows]))
        expected = predict_split(classifier, images, moved, batch_size=5, compute=compute)
        found = predict_split(classifier, images, images.test, batch_size=5, compute=compute, shift=shift)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
