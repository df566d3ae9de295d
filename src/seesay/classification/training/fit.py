"""Fitting a classifier to labels, or to labels and a teacher; the best epoch is that of the lowest val loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from seesay.classification.networks.registry import check_head
from seesay.compute import Compute
from seesay.images.batches import (
    Batch,
    LoadedImages,
    load_images,
    num_training_batches,
    ordered_batches,
    training_batches,
)
from seesay.images.packed import PackedImages
from seesay.params.classification import Classifier, Distillation, ProgressiveResizing
from seesay.training.build import count_flops
from seesay.training.checkpoint import Checkpoint, describe_architecture
from seesay.training.checks import check_labels
from seesay.training.loop import Log, fit
from seesay.training.steps import Step

EVALUATION_BATCH_SIZE = 256

TRAINING_COST = 3
"""The cost of a training step in forward passes: one forward, and about two for the backward pass."""


def fit_classifier(
    classifier: nn.Module,
    images: PackedImages,
    settings: Classifier,
    *,
    teacher: nn.Module | None,
    rate_scales: Mapping[str, float] | None,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> tuple[Checkpoint, float]:
    """Train `classifier` (changed in place) on `images.train`.

    Returns its best epoch, by the lowest `val/loss`, and the core-seconds of all epochs. `teacher` is the network that
    `settings.distillation` learns from; it gets the same augmented images.

    Metrics: `train/loss` (as minimised, with label smoothing, mixed labels, class weights and the teacher),
    `train/top1` (on augmented images during training; the larger of mixed labels counts), `val/loss` (plain
    cross-entropy, where all images weigh the same), `val/top1`, `val/top5`
    with more than five classes, and `train/flops`, the floating-point operations of all epochs.

    Raises `InputError` where the head's width is not the number of classes, and `TrainingError` for labels that are no
    classes and as `fit` does.
    """
    training, augmentation = settings.training, settings.augmentation
    assert training is not None, "only an ensemble has none"
    sizes = [
        image_size_at(epoch, training.epochs, images.image_size, settings.progressive_resizing)
        for epoch in range(1, training.epochs + 1)
    ]
    for size in {images.image_size, sizes[0]}:
        check_head(classifier, num_classes=images.num_classes, image_size=size)
    for name, split in (("train", images.train), ("val", images.val)):
        check_labels(split.labels, images.num_classes, split=name)
    load = partial(load_images, mean=images.channel_mean, std=images.channel_std, compute=compute)
    train, val = load(images.train), load(images.val)
    batch_size = training.batch_size
    num_batches = num_training_batches(len(train), batch_size=batch_size)
    ks = (1, 5) if images.num_classes > 5 else (1,)
    if teacher is not None:
        teacher = compute.place(teacher).eval().requires_grad_(False)
    best = fit(
        classifier,
        training,
        batches=lambda epoch: training_batches(
            train,
            epoch,
            batch_size=batch_size,
            augmentation=augmentation,
            seed=seed,
            size=sizes[epoch - 1],
            num_classes=images.num_classes,
            balanced=settings.sampler is not None,
            ranks=compute.ranks,
        ),
        num_batches=num_batches,
        compute_step=build_learning_step(settings, images, teacher=teacher, compute=compute),
        evaluate=partial(_evaluate, val=val, batch_size=EVALUATION_BATCH_SIZE, ks=ks, compute=compute),
        # A teacher's cross-entropy is not that of the labels. A pretrained network is checked: its head starts small.
        expected_first_loss=math.log(images.num_classes) if teacher is None else None,
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
        rate_scales=rate_scales,
    )
    num_epochs = int(best.metrics["num_epochs"])
    num_images = num_batches * min(batch_size, len(train))
    per_image = {size: _training_flops(classifier, teacher, image_size=size) for size in set(sizes[:num_epochs])}
    passes = num_images if training.sharpness_radius is None else 2 * num_images
    flops = float(sum(per_image[size] for size in sizes[:num_epochs]) * passes)
    checkpoint = Checkpoint(
        kind="classifier",
        dataset=settings.dataset,
        dataset_digest=images.digest,
        classes=tuple(one.wnid for one in images.classes),
        vocabulary_digest="",
        architecture=describe_architecture(settings.architecture),
        sizes={"num_classes": images.num_classes, "image_size": images.image_size},
        settings=settings.model_dump(mode="json"),
        normalisation={"mean": list(images.channel_mean), "std": list(images.channel_std)},
        state_dict=best.state_dict,
        metrics={**best.metrics, "train/flops": flops},
    )
    return checkpoint, best.core_seconds


def image_size_at(epoch: int, num_epochs: int, full: int, settings: ProgressiveResizing | None) -> int:
    """Return the side of the images in `epoch` (from 1): from `start_size` linearly to `full`, in multiples of 8."""
    if settings is None:
        return full
    share = min(1.0, (epoch - 1) / max(1.0, settings.until * num_epochs))
    return full if share >= 1.0 else 8 * round((settings.start_size + share * (full - settings.start_size)) / 8)


def evaluate_on_val(classifier: nn.Module, images: PackedImages, *, compute: Compute) -> dict[str, float]:
    """Compute `val/loss`, `val/top1` and `val/top5` of a classifier that is not trained here, such as an ensemble."""
    val = load_images(images.val, mean=images.channel_mean, std=images.channel_std, compute=compute)
    ks = (1, 5) if images.num_classes > 5 else (1,)
    with torch.no_grad():
        placed = compute.place(classifier).eval()
        return _evaluate(placed, val=val, batch_size=EVALUATION_BATCH_SIZE, ks=ks, compute=compute)


def build_learning_step(
    settings: Classifier, images: PackedImages, *, teacher: nn.Module | None, compute: Compute
) -> Callable[[nn.Module, Batch], Step]:
    """Return `learning_step` as the settings and the classes of `images.train` have it."""
    class_weights = None
    if settings.class_weights is not None:
        labels = np.asarray(images.train.labels)
        weights = compute_class_weight(settings.class_weights, classes=np.arange(images.num_classes), y=labels)
        class_weights = torch.tensor(weights, dtype=torch.float32, device=compute.device)
    return partial(
        learning_step,
        label_smoothing=settings.label_smoothing,
        class_weights=class_weights,
        teacher=teacher,
        distillation=settings.distillation,
    )


def learning_step(
    classifier: nn.Module,
    batch: Batch,
    *,
    label_smoothing: float,
    class_weights: Tensor | None = None,
    teacher: nn.Module | None,
    distillation: Distillation | None,
) -> Step:
    """Compute the loss that `fit` minimises for one batch, and the number of correct predictions (`top1`).

    `class_weights`, float32 (num_classes,), weigh the labels' part of the loss (`weighted_cross_entropy`).
    """
    images, labels = batch
    logits = classifier(images)
    weight = None
    if class_weights is None:
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    else:
        loss = weighted_cross_entropy(logits, labels, class_weights, label_smoothing=label_smoothing)
        weight = class_weights[labels].sum() if labels.ndim == 1 else (labels * class_weights).sum()
    if teacher is not None and distillation is not None:
        with torch.no_grad():
            soft_labels = (teacher(images).float() / distillation.temperature).softmax(dim=1)
        soft = F.cross_entropy(logits.float() / distillation.temperature, soft_labels) * distillation.temperature**2
        loss = (1.0 - distillation.weight) * loss + distillation.weight * soft
    hard_labels = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return Step(loss, len(labels), {"top1": _num_correct(logits.detach(), hard_labels, k=1)}, weight)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, *, label_smoothing: float) -> Tensor:
    """Compute the mean cross-entropy over a batch, where an image weighs as much as its class.

    Labels are int64 (n,), or float32 (n, num_classes) where images are mixed; each part of a mixed image has the weight
    of its own class. Smoothing spreads an image's label evenly over the classes, whatever their weights:
    `F.cross_entropy` would spread most of it over the rare ones, and would divide by n where images are mixed.
    """
    shares = labels if labels.ndim == 2 else F.one_hot(labels, len(weights))
    weighted = shares * weights
    of_image = weighted.sum(dim=1)
    losses = F.cross_entropy(logits, weighted / of_image[:, None], label_smoothing=label_smoothing, reduction="none")
    return (of_image * losses).sum() / of_image.sum()


def _training_flops(classifier: nn.Module, teacher: nn.Module | None, *, image_size: int) -> int:
    """Return the floating-point operations that one image costs per epoch."""
    trainable = all(parameter.requires_grad for parameter in classifier.parameters())
    if trainable:
        cost = TRAINING_COST * count_flops(classifier, image_size=image_size)
    else:  # no gradients go through what is frozen
        cost = count_flops(classifier, image_size=image_size, backward=True)
    return cost + (0 if teacher is None else count_flops(teacher, image_size=image_size))


def _evaluate(
    classifier: nn.Module, *, val: LoadedImages, batch_size: int, ks: tuple[int, ...], compute: Compute
) -> dict[str, float]:
    """Compute the val metrics under autocast, like training: in float32 this took a fifth of an epoch.

    The reported metrics are measured in float32 by the evaluation stage.
    """
    sums: dict[str, list[Tensor]] = {"loss": [], **{f"top{k}": [] for k in ks}}
    for images, labels in ordered_batches(val, batch_size=batch_size, ranks=compute.ranks):
        with compute.autocast():
            logits = classifier(images)
        logits = logits.float()
        sums["loss"].append(F.cross_entropy(logits, labels, reduction="sum"))
        for k in ks:
            sums[f"top{k}"].append(_num_correct(logits, labels, k=k))
    of_batches = {
        name: compute.ranks.gather(torch.stack(values).tolist() if values else []) for name, values in sums.items()
    }
    return {f"val/{name}": math.fsum(values) / len(val) for name, values in of_batches.items()}


def _num_correct(logits: Tensor, labels: Tensor, *, k: int) -> Tensor:
    """Count the labels among the k largest logits: fewer than k logits are larger than the label's."""
    label_logits = logits.gather(1, labels[:, None])
    return ((logits > label_logits).sum(1) < k).sum()
