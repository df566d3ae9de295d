"""Classifiers and autoencoders trained on a handful of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seesay.data.packed_images import ImageClass, ImageSplit, PackedImages, channel_statistics
from seesay.data.sources import SourceNote
from seesay.errors import InputError
from seesay.evaluation.classification import classification_metrics
from seesay.evaluation.predicting import predict_classes
from seesay.evaluation.reconstruction import mean_psnr, reconstruct
from seesay.models.autoencoders import build_autoencoder, restore_autoencoder
from seesay.models.checkpoint import save_checkpoint
from seesay.models.classifiers import build_classifier, restore_classifier
from seesay.params.experiments import Architecture, Augmentation, Autoencoder, Classifier
from seesay.training.classification import fit_classifier
from seesay.training.reconstruction import fit_autoencoder

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
        dataset="squares", architecture=ARCHITECTURE, augmentation=augmentation, label_smoothing=0.1, training=learning
    )


def classifier_of(num_classes=NUM_CLASSES):
    return build_classifier(ARCHITECTURE, num_classes=num_classes, image_size=SIZE, seed=0, key="x")


def no_log(metrics, *, step):
    pass


@pytest.fixture
def fitted(images, settings, compute):
    return fit_classifier(classifier_of(), images, settings, seed=0, compute=compute, log=no_log, resume=None)


def test_a_classifier_learns_and_its_checkpoint_gives_the_same_metrics(fitted, images, compute):
    assert fitted.metrics["val/top1"] > 0.8
    predictions = predict_classes(restore_classifier(fitted), images, batch_size=7, compute=compute)
    metrics = classification_metrics(predictions)
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


def test_two_trainings_and_a_resumed_one_write_the_same_bytes(fitted, images, settings, compute, tmp_path):
    save_checkpoint(tmp_path / "one.pt", fitted)

    def killed(metrics, *, step):
        if step == 4:
            raise KeyboardInterrupt

    scratch = tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        fit_classifier(classifier_of(), images, settings, seed=0, compute=compute, log=killed, resume=scratch)
    again = fit_classifier(classifier_of(), images, settings, seed=0, compute=compute, log=no_log, resume=scratch)
    save_checkpoint(tmp_path / "two.pt", again)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_each_epoch_is_logged_with_train_and_val(images, settings, compute):
    rows = []
    fit_classifier(
        classifier_of(),
        images,
        settings,
        seed=0,
        compute=compute,
        log=lambda metrics, *, step: rows.append((step, metrics)),
        resume=None,
    )
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5, 6]
    names = {"train/loss", "train/top1", "val/loss", "val/top1", "val/top5", "learning_rate"}
    assert all(set(metrics) == names for _, metrics in rows)


def test_a_head_of_another_width_is_refused_before_training(images, settings, compute):
    with pytest.raises(InputError, match=r"head gives \(5,\) logits, the data has 6 classes"):
        fit_classifier(classifier_of(5), images, settings, seed=0, compute=compute, log=no_log, resume=None)


def test_images_that_are_not_normalised_are_noticed_by_the_first_loss(images, settings, compute):
    from dataclasses import replace

    wrong = replace(images, channel_mean=(-90.0,) * 3, channel_std=(1e-3,) * 3)
    architecture = Architecture(name="mlp", hidden_sizes=[8], dropout=0.0)
    mlp = build_classifier(architecture, num_classes=NUM_CLASSES, image_size=SIZE, seed=0, key="x")
    with pytest.raises(InputError, match=f"has about {math.log(NUM_CLASSES):.4g}"):
        fit_classifier(mlp, wrong, settings, seed=0, compute=compute, log=no_log, resume=None)


def test_an_autoencoder_learns_and_its_checkpoint_gives_the_same_psnr(images, training, adamw, compute):
    architecture = Architecture(name="conv_autoencoder", width=4, latent_channels=8)
    learning = training.model_copy(update={"epochs": 8, "optimizer": adamw, "moving_average": None})
    settings = Autoencoder(
        dataset="squares",
        architecture=architecture,
        augmentation=Augmentation(flip=True, crop_padding=0, cutout=0.0),
        training=learning,
    )
    autoencoder = build_autoencoder(architecture, image_size=SIZE, seed=0, key="x")
    rows = []
    best = fit_autoencoder(
        autoencoder,
        images,
        settings,
        seed=0,
        compute=compute,
        log=lambda metrics, *, step: rows.append(metrics),
        resume=None,
    )
    assert set(rows[0]) == {"train/loss", "val/loss", "val/mse", "val/psnr", "learning_rate"}
    assert rows[-1]["val/psnr"] > rows[0]["val/psnr"] + 2.0
    assert best.metrics["val/loss"] == best.metrics["val/mse"]
    drawn = reconstruct(restore_autoencoder(best), images.val, batch_size=5, compute=compute)
    assert mean_psnr(drawn.mse) == pytest.approx(best.metrics["val/psnr"], abs=1e-3)


def test_labels_tied_with_larger_logits_count_as_right_within_k():
    from seesay.training.classification import _num_right

    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert _num_right(logits, torch.tensor([1, 0]), k=1).item() == 0
    assert _num_right(logits, torch.tensor([1, 0]), k=2).item() == 1
    assert _num_right(logits, torch.tensor([1, 0]), k=3).item() == 2
