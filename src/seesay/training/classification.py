"""How a classifier learns: cross-entropy on augmented images, judged by cross-entropy on val."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.compute import Compute
from seesay.data.image_batches import (
    Batch,
    DeviceImages,
    load_images,
    num_training_batches,
    ordered_batches,
    training_batches,
)
from seesay.data.packed_images import PackedImages
from seesay.models.checkpoint import Checkpoint, describe_architecture
from seesay.models.classifiers import check_head
from seesay.params.experiments import Classifier
from seesay.training.loop import Log, Step, fit


def fit_classifier(
    classifier: nn.Module,
    images: PackedImages,
    settings: Classifier,
    *,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> Checkpoint:
    """Trains `classifier` (changed in place) on `images.train`; returns the epoch with the lowest `val/loss`.

    Metrics: `train/loss` (with label smoothing), `train/top1` (both on augmented images, while learning), `val/loss`
    (without smoothing), `val/top1`, and `val/top5` where there are more than five classes. Raises `InputError` for a
    head of another width than the data's classes and `TrainingError` as `fit` does.
    """
    check_head(classifier, num_classes=images.num_classes, image_size=images.image_size)
    load = partial(load_images, mean=images.channel_mean, std=images.channel_std, device=compute.device)
    train, val = load(images.train), load(images.val)
    batch_size = settings.training.batch_size
    ks = (1, 5) if images.num_classes > 5 else (1,)
    best = fit(
        classifier,
        settings.training,
        batches=lambda epoch: training_batches(
            train, epoch, batch_size=batch_size, augmentation=settings.augmentation, seed=seed
        ),
        num_batches=num_training_batches(len(train), batch_size=batch_size),
        compute_step=partial(_step, label_smoothing=settings.label_smoothing),
        evaluate=partial(_evaluate, val=val, batch_size=batch_size, ks=ks),
        expected_first_loss=math.log(images.num_classes),
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
    )
    return Checkpoint(
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
        metrics=best.metrics,
    )


def _step(classifier: nn.Module, batch: Batch, *, label_smoothing: float) -> Step:
    images, labels = batch
    logits = classifier(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return Step(loss, len(labels), {"top1": _num_right(logits.detach(), labels, k=1)})


def _evaluate(classifier: nn.Module, *, val: DeviceImages, batch_size: int, ks: tuple[int, ...]) -> dict[str, float]:
    sums: dict[str, list[Tensor]] = {"loss": [], **{f"top{k}": [] for k in ks}}
    for images, labels in ordered_batches(val, batch_size=batch_size):
        logits = classifier(images)
        sums["loss"].append(F.cross_entropy(logits, labels, reduction="sum"))
        for k in ks:
            sums[f"top{k}"].append(_num_right(logits, labels, k=k))
    return {f"val/{name}": math.fsum(torch.stack(values).tolist()) / len(val) for name, values in sums.items()}


def _num_right(logits: Tensor, labels: Tensor, *, k: int) -> Tensor:
    """How many labels are among the k largest logits: fewer than k logits are larger than the label's."""
    of_label = logits.gather(1, labels[:, None])
    return ((logits > of_label).sum(1) < k).sum()
