"""Predictions and metrics of a classifier experiment, which has a network for each of its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.classification.metrics import average_probabilities, classification_metrics, seed_metrics, top_accuracy
from seesay.classification.networks.registry import restore_classifier
from seesay.classification.predictions import ClassPredictions, SplitPredictions
from seesay.compute import Compute
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageSplit, PackedImages
from seesay.params.results import Evaluation
from seesay.training.checkpoint import Checkpoint


def evaluate_classifier(
    checkpoints: Sequence[Checkpoint], images: PackedImages, settings: Evaluation, *, compute: Compute
) -> tuple[ClassPredictions, dict[str, float]]:
    """Return the first network's predictions and metrics; further networks only add the metrics `seeds/...`.

    `settings.test_time_flip` adds `test/top1_flipped`, from the mean of the probabilities for an image and its mirror
    image. `settings.test_time_shift` adds `test/top1_views`, from the mean of six views: of these two, as they are and
    moved by that many pixels along both diagonals. Raises `InputError` where a checkpoint was trained on other classes
    than those of `images`.
    """
    for checkpoint in checkpoints:
        checkpoint.require_classes(images.classes)
    batch_size = settings.batch_size
    classifiers = [restore_classifier(checkpoint) for checkpoint in checkpoints]
    predictions = [
        predict_classes(classifier, images, batch_size=batch_size, compute=compute) for classifier in classifiers
    ]
    first = predictions[0]
    metrics = classification_metrics(
        first, bootstrap_resamples=settings.bootstrap_resamples, bootstrap_seed=settings.bootstrap_seed
    )
    view = partial(predict_split, classifiers[0], images, images.test, batch_size=batch_size, compute=compute)
    if settings.test_time_flip:
        views = [first.test, view(mirrored=True)]
        metrics["test/top1_flipped"] = top_accuracy(average_probabilities(*views), k=1)
    if (shift := settings.test_time_shift) is not None:
        views = [view(mirrored=mirrored, shift=by) for mirrored in (False, True) for by in (-shift, 0, shift)]
        metrics["test/top1_views"] = top_accuracy(average_probabilities(*views), k=1)
    return first, metrics | seed_metrics(predictions)


def predict_classes(
    classifier: nn.Module, images: PackedImages, *, batch_size: int, compute: Compute
) -> ClassPredictions:
    """Predict every image of val and test, in the splits' order, in float32: lower precision changes decisions."""
    return ClassPredictions(
        val=predict_split(classifier, images, images.val, batch_size=batch_size, compute=compute),
        test=predict_split(classifier, images, images.test, batch_size=batch_size, compute=compute),
    )


def predict_split(
    classifier: nn.Module,
    images: PackedImages,
    split: ImageSplit,
    *,
    batch_size: int,
    compute: Compute,
    mirrored: bool = False,
    shift: int = 0,
) -> SplitPredictions:
    """Predict every image in one split of `images`, or its mirror image (left and right exchanged).

    It is shown from `shift` pixels further down and right; what lies beyond its edges is mirrored there.
    """
    classifier = compute.place(classifier).eval()
    loaded = load_images(split, mean=images.channel_mean, std=images.channel_std, compute=compute)
    ordered = ordered_batches(loaded, batch_size=batch_size, ranks=compute.ranks)
    batches = (_shifted(batch, shift) for batch, _ in ordered)
    with torch.inference_mode():
        parts = [classifier(batch.flip(3) if mirrored else batch).float().cpu() for batch in batches]
    logits = torch.cat(compute.ranks.gather(parts))
    class_labels = tuple(image_class.label for image_class in images.classes)
    return SplitPredictions(logits.numpy(), np.array(split.labels, dtype=np.int64), class_labels)


def _shifted(images: Tensor, shift: int) -> Tensor:
    if shift == 0:
        return images
    room, size = abs(shift), images.shape[-1]
    window = slice(room + shift, room + shift + size)
    return F.pad(images, (room,) * 4, mode="reflect")[..., window, window]
