from dataclasses import replace

import pytest

from seesay.errors import InputError
from seesay.evaluation.measuring import measure_classifier
from seesay.models.checkpoint import Checkpoint, describe_architecture
from seesay.models.classifiers import build_classifier
from seesay.params.experiments import Architecture
from seesay.params.results import Evaluation

ARCHITECTURE = Architecture(name="mlp", hidden_sizes=[4], dropout=0.0)
SETTINGS = Evaluation(batch_size=5, panel_images=1, panel_seed=0, bootstrap_resamples=9, bootstrap_seed=0)


def checkpoint(images, seed):
    sizes = {"num_classes": images.num_classes, "image_size": images.image_size}
    return Checkpoint(
        kind="classifier",
        dataset="tiny",
        dataset_digest=images.digest,
        classes=tuple(one.wnid for one in images.classes),
        vocabulary_digest="",
        architecture=describe_architecture(ARCHITECTURE),
        sizes=sizes,
        settings={},
        normalisation={},
        state_dict=build_classifier(ARCHITECTURE, **sizes, seed=seed, key="x").state_dict(),
        metrics={},
    )


def test_the_first_network_is_the_one_that_is_judged_and_seeds_only_add_their_spread(make_images, compute):
    images = make_images()
    first, second = checkpoint(images, 0), checkpoint(images, 1)
    predictions, alone = measure_classifier([first], images, SETTINGS, compute=compute)
    same, both = measure_classifier([first, second], images, SETTINGS, compute=compute)
    assert (same.test.logits == predictions.test.logits).all()
    assert {key: value for key, value in both.items() if not key.startswith("seeds/")} == alone
    assert both["seeds/num"] == 2.0
    _, other = measure_classifier([second], images, SETTINGS, compute=compute)
    assert both["seeds/val/top1_mean"] == pytest.approx((alone["val/top1"] + other["val/top1"]) / 2)


def test_the_mirror_image_counts_only_where_it_is_asked_for_and_under_a_key_of_its_own(make_images, compute):
    images = make_images()
    _, plain = measure_classifier([checkpoint(images, 0)], images, SETTINGS, compute=compute)
    flipping = SETTINGS.model_copy(update={"test_time_flip": True})
    _, flipped = measure_classifier([checkpoint(images, 0)], images, flipping, compute=compute)
    assert set(flipped) - set(plain) == {"test/top1_flipped"}
    assert {key: flipped[key] for key in plain} == plain


def test_images_that_look_the_same_mirrored_get_the_same_answer(make_images, compute):
    images = make_images()
    symmetric = images.test.images.copy()
    symmetric[:, :, 8:] = symmetric[:, :, 7::-1]
    images = replace(images, test=replace(images.test, images=symmetric))
    flipping = SETTINGS.model_copy(update={"test_time_flip": True})
    _, metrics = measure_classifier([checkpoint(images, 0)], images, flipping, compute=compute)
    assert metrics["test/top1_flipped"] == metrics["test/top1"]


def test_a_network_of_other_classes_is_refused(make_images, compute):
    images = make_images()
    stranger = replace(checkpoint(images, 1), classes=("x", "y", "z"))
    with pytest.raises(InputError, match="class 0 is x"):
        measure_classifier([checkpoint(images, 0), stranger], images, SETTINGS, compute=compute)
