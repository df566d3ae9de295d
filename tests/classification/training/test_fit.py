"""Classifiers trained on a handful of images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seesay.classification.evaluate import predict_classes
from seesay.classification.metrics import classification_metrics
from seesay.classification.networks.registry import build_classifier, restore_classifier
from seesay.classification.training.fit import fit_classifier, image_size_at, weighted_cross_entropy
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageClass, ImageSplit, PackedImages, channel_statistics
from seesay.params.classification import (
    Architecture,
    Augmentation,
    Classifier,
    Distillation,
    ProgressiveResizing,
)
from seesay.sources.provenance import SourceNote
from seesay.training.build import count_flops
from seesay.training.checkpoint import save_checkpoint

CPU = Compute(torch.device("cpu"), None, num_threads=1, deterministic=True, compile=False)

SIZE, NUM_CLASSES = 16, 6


@pytest.fixture
def images() -> PackedImages:
    """Six classes: a bright square at one of six places on a dark noisy ground."""
    generator = np.random.default_rng(0)

    def split(num_per_class: int, name: str) -> ImageSplit:
        labels = np.repeat(np.arange(NUM_CLASSES), num_per_class)
        pixels = generator.integers(0, 80, size=(len(labels), SIZE, SIZE, 3))
        for image, label in zip(pixels, labels, strict=True):
            top, left = 8 * (label // 3), 5 * (label % 3)
            image[top : top + 6, left : left + 5] += 150
        return ImageSplit(pixels.astype(np.uint8), labels, tuple(f"{name}{i}" for i in range(len(labels))))

    train, val, test = split(8, "train"), split(3, "val"), split(3, "test")
    mean, std = channel_statistics(train.images)
    classes = tuple(ImageClass(f"n{i}", f"word {i}") for i in range(NUM_CLASSES))
    return PackedImages(train, val, test, classes, SIZE, mean, std, "squares", "digest", SourceNote("squares", ()))


ARCHITECTURE = Architecture(name="resnet9", width=4)


@pytest.fixture
def settings(training, adamw):
    learning = training.model_copy(update={"epochs": 6, "optimizer": adamw, "moving_average": None})
    augmentation = Augmentation(flip=False, crop_padding=1, cutout=0.2)
    return Classifier(
        dataset="squares",
        architecture=ARCHITECTURE,
        start="scratch",
        augmentation=augmentation,
        label_smoothing=0.1,
        training=learning,
    )


def classifier_of(num_classes=NUM_CLASSES):
    return build_classifier(ARCHITECTURE, num_classes=num_classes, image_size=SIZE, seed=0, key="x")


def load_images_of(images):
    return load_images(images.val, mean=images.channel_mean, std=images.channel_std, compute=CPU)


def no_log(metrics, *, step):
    pass


@pytest.fixture
def fit(images, settings, compute):
    """`fit_classifier` on the squares; any argument can be another. Returns the checkpoint."""

    def run(classifier=None, **changes):
        arguments = {"images": images, "settings": settings, "teacher": None, "rate_scales": None, "seed": 0}
        arguments |= {"compute": compute, "log": no_log, "resume": None, **changes}
        checkpoint, core_seconds = fit_classifier(classifier or classifier_of(), **arguments)
        assert core_seconds > 0.0
        return checkpoint

    return run


@pytest.fixture
def fitted(fit):
    return fit()


def test_a_classifier_learns_and_its_checkpoint_gives_the_same_metrics(fitted, images, compute):
    assert fitted.metrics["val/top1"] > 0.8
    predictions = predict_classes(restore_classifier(fitted), images, batch_size=7, compute=compute)
    metrics = classification_metrics(predictions, bootstrap_resamples=10, bootstrap_seed=0)
    for name in ("val/top1", "val/top5", "val/loss"):
        assert metrics[name] == pytest.approx(fitted.metrics[name], abs=1e-5)


def test_the_checkpoint_says_what_it_was_trained_on(fitted, images, settings):
    assert (fitted.kind, fitted.dataset, fitted.dataset_digest) == ("classifier", "squares", "digest")
    assert fitted.classes == tuple(f"n{i}" for i in range(NUM_CLASSES))
    assert fitted.sizes == {"num_classes": NUM_CLASSES, "image_size": SIZE}
    assert fitted.normalisation == {"mean": list(images.channel_mean), "std": list(images.channel_std)}
    assert fitted.settings == settings.model_dump(mode="json")
    assert fitted.settings["architecture"] == {"name": "resnet9", "width": 4}
    fitted.require_classes(images.classes)


def test_two_trainings_and_a_resumed_one_write_the_same_bytes(fit, fitted, tmp_path):
    save_checkpoint(tmp_path / "one.pt", fitted)

    def killed(metrics, *, step):
        if step == 4:
            raise KeyboardInterrupt

    scratch = tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        fit(log=killed, resume=scratch)
    save_checkpoint(tmp_path / "two.pt", fit(resume=scratch))
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_each_epoch_is_logged_with_train_and_val(fit):
    rows = []
    fit(log=lambda metrics, *, step: rows.append((step, metrics)))
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5, 6]
    names = {"train/loss", "train/top1", "val/loss", "val/top1", "val/top5", "learning_rate"}
    assert all(set(metrics) == names for _, metrics in rows)


def test_a_head_of_another_width_is_refused_before_training(fit):
    with pytest.raises(InputError, match=r"head returns \(5,\) logits, the data has 6 classes"):
        fit(classifier_of(5))


def test_images_that_are_not_normalised_are_noticed_by_the_first_loss(fit, images):
    wrong = replace(images, channel_mean=(-90.0,) * 3, channel_std=(1e-3,) * 3)
    architecture = Architecture(name="mlp", hidden_sizes=[8], dropout=0.0)
    mlp = build_classifier(architecture, num_classes=NUM_CLASSES, image_size=SIZE, seed=0, key="x")
    with pytest.raises(InputError, match=f"has about {math.log(NUM_CLASSES):.4g}"):
        fit(mlp, images=wrong)


def test_the_cost_of_learning_counts_every_epoch_at_its_size(fit, fitted, settings):
    flops = count_flops(classifier_of(), image_size=SIZE)
    assert fitted.metrics["train/flops"] == 3 * flops * 48 * 6  # 48 images, 6 epochs
    growing = settings.model_copy(update={"progressive_resizing": ProgressiveResizing(start_size=8, until=0.5)})
    # a start of 8 pixels is too small for this network, and that is said before training
    with pytest.raises(InputError, match="8 pixels"):
        fit(settings=growing)


@pytest.mark.parametrize(
    ("epoch", "size"),
    # from 32 to 64 over the first 5 of 10 epochs: 32, 38.4, 44.8, 51.2, 57.6, 64, rounded to multiples of 8
    [(1, 32), (2, 40), (3, 48), (4, 48), (5, 56), (6, 64), (10, 64)],
)
def test_images_grow_to_full_size(epoch, size):
    assert image_size_at(epoch, 10, 64, ProgressiveResizing(start_size=32, until=0.5)) == size
    assert image_size_at(epoch, 10, 64, None) == 64


def test_a_student_comes_close_to_its_teacher_s_probabilities(fit, fitted, images, settings):
    learning = settings.model_copy(update={"distillation": Distillation(weight=1.0, temperature=2.0)})
    teacher = restore_classifier(fitted)
    student = restore_classifier(fit(teacher=teacher, settings=learning, seed=1))
    batch, _ = next(ordered_batches(load_images_of(images), batch_size=100))
    with torch.no_grad():
        apart = (student(batch).softmax(1) - teacher(batch).softmax(1)).abs().sum(1).mean()
        untaught = (classifier_of()(batch).softmax(1) - teacher(batch).softmax(1)).abs().sum(1).mean()
    assert apart < 0.5 * untaught


def test_the_distillation_loss_is_the_weighted_sum_it_says_it_is():
    from seesay.classification.training.fit import learning_step

    logits = torch.tensor([[2.0, 0.0]])
    student, teacher = (lambda _: logits), (lambda _: torch.tensor([[0.0, 2.0]]))
    distillation = Distillation(weight=0.75, temperature=2.0)
    batch = (torch.zeros(1, 3, 4, 4), torch.tensor([0]))
    step = learning_step(student, batch, label_smoothing=0.0, teacher=teacher, distillation=distillation)
    # labels: ln(1 + e^-2); teacher at T = 2: p = (1, e) / (1 + e) against log q = (-ln(1 + e^-1), -1 - ln(1 + e^-1))
    hard = math.log1p(math.exp(-2))
    soft = math.log1p(math.exp(-1)) + math.e / (1 + math.e)
    assert step.loss.item() == pytest.approx(0.25 * hard + 0.75 * 4 * soft, rel=1e-5)


LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-0.5, 1.5, 0.0]])
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def test_weights_without_smoothing_are_those_of_torch():
    labels = torch.tensor([0, 2, 1])
    weighted = weighted_cross_entropy(LOGITS, labels, WEIGHTS, label_smoothing=0.0)
    assert weighted.item() == pytest.approx(F.cross_entropy(LOGITS, labels, weight=WEIGHTS).item(), rel=1e-6)


def test_each_part_of_a_mixed_and_smoothed_label_has_its_weight():
    """The loss of parts (image, class, share), each smoothed and weighted by its class, is worked out one by one."""
    shares = torch.tensor([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0], [0.0, 0.4, 0.6]])
    total, weight = 0.0, 0.0
    for image, label in ((0, 0), (0, 2), (1, 1), (2, 1), (2, 2)):
        part = shares[image, label].item() * WEIGHTS[label].item()
        smoothed = F.cross_entropy(LOGITS[image : image + 1], torch.tensor([label]), label_smoothing=0.2).item()
        total, weight = total + part * smoothed, weight + part
    found = weighted_cross_entropy(LOGITS, shares, WEIGHTS, label_smoothing=0.2)
    assert found.item() == pytest.approx(total / weight, rel=1e-6)
    hard = torch.tensor([0, 2, 1])
    of_hard = weighted_cross_entropy(LOGITS, hard, WEIGHTS, label_smoothing=0.2)
    of_shares = weighted_cross_entropy(LOGITS, F.one_hot(hard, 3).float(), WEIGHTS, label_smoothing=0.2)
    assert of_hard.item() == pytest.approx(of_shares.item(), rel=1e-6)
    equal = weighted_cross_entropy(LOGITS, shares, torch.ones(3), label_smoothing=0.2)
    assert equal.item() == pytest.approx(F.cross_entropy(LOGITS, shares, label_smoothing=0.2).item(), rel=1e-6)


@pytest.mark.parametrize("option", ["class_weights", "sampler"])
def test_balanced_classes_make_the_common_one_less_likely(fit, images, settings, option):
    """One class has 8 images and the others 2 each, all of noise and a faint square."""
    train = images.train
    rows = np.flatnonzero((train.labels == 0) | (np.arange(len(train)) % 8 < 2))
    faint = (0.5 * train.images[rows]).astype(np.uint8)
    uneven = replace(images, train=ImageSplit(faint, train.labels[rows], tuple(train.ids[row] for row in rows)))
    batch, _ = next(ordered_batches(load_images_of(uneven), batch_size=100))

    def probability_of_common(**changes):
        training = settings.training.model_copy(update={"epochs": 15})
        changed = settings.model_copy(update={"training": training, **changes})
        return restore_classifier(fit(images=uneven, settings=changed))(batch).softmax(1)[:, 0].mean().item()

    assert probability_of_common(**{option: "balanced"}) < 0.85 * probability_of_common()


def test_classes_are_balanced_in_one_way_and_never_in_an_ensemble(settings):
    values = {"dataset": "x", "architecture": ARCHITECTURE, "start": "scratch", "training": settings.training}
    with pytest.raises(ValueError, match="class_weights and sampler: expected one of them"):
        Classifier(**values, class_weights="balanced", sampler="balanced")
    ensemble = {"dataset": "x", "architecture": Architecture(name="ensemble"), "start": "classifiers/x"}
    for option in ("class_weights", "sampler"):
        with pytest.raises(ValueError, match="expected none for architecture ensemble"):
            Classifier(**ensemble, **{option: "balanced"})


def test_labels_tied_with_larger_logits_count_as_right_within_k():
    from seesay.classification.training.fit import _num_correct

    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert _num_correct(logits, torch.tensor([1, 0]), k=1).item() == 0
    assert _num_correct(logits, torch.tensor([1, 0]), k=2).item() == 1
    assert _num_correct(logits, torch.tensor([1, 0]), k=3).item() == 2
