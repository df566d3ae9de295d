"""The training of one entry of `classifiers`: several seeds, published weights, a teacher, an ensemble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from seesay.classification.networks.pretrained import Pretrained, load_pretrained
from seesay.classification.networks.registry import build_classifier, ensemble_of, load_members, restore_classifier
from seesay.classification.training.fit import evaluate_classifier, fit_classifier
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.packed import PackedImages
from seesay.params.classification import ENSEMBLE, Classifier
from seesay.sources.provenance import read_source
from seesay.training.checkpoint import Checkpoint
from seesay.training.loop import Log


@dataclass(frozen=True)
class Made:
    """A checkpoint for each seed, and the core-seconds it took."""

    checkpoints: list[Checkpoint]
    core_seconds: list[float]


def make_classifiers(
    cell: str,
    settings: Classifier,
    images: PackedImages,
    paths: Paths,
    *,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> Made:
    """Trains a network for each of the cell's seeds (`seed` where it names none), or averages those of its `start`.

    `log` is told of the first network's epochs. Raises `InputError` where the published weights or the classifier
    that this one starts from are missing or do not fit, and `TrainingError` as `fit` does.
    """
    parents = load_parents(settings, images, paths)
    if settings.architecture.name == ENSEMBLE:
        return _ensemble(settings, images, parents, compute=compute, log=log)
    checkpoints: list[Checkpoint] = []
    core_seconds: list[float] = []
    for index, one_seed in enumerate(settings.seeds or (seed,)):
        classifier, rate_scales = start_network(cell, settings, images, paths, seed=one_seed)
        checkpoint, seconds = fit_classifier(
            classifier,
            images,
            settings,
            teacher=restore_classifier(parents[0]) if parents else None,
            rate_scales=rate_scales,
            seed=one_seed,
            compute=compute,
            log=log if index == 0 else _silent,
            resume=None if resume is None else resume / str(index),
        )
        checkpoints.append(checkpoint)
        core_seconds.append(seconds)
    return Made(checkpoints, core_seconds)


def _ensemble(
    settings: Classifier, images: PackedImages, members: list[Checkpoint], *, compute: Compute, log: Log
) -> Made:
    if len(members) < 2:
        raise InputError(f"start: got {settings.start!r}: expected a classifier of two or more seeds")
    ensemble = ensemble_of(members)
    found = evaluate_classifier(restore_classifier(ensemble), images, compute=compute)
    log(found, step=0)
    metrics = {**found, "best_epoch": 0.0, "num_epochs": 0.0, "train/flops": 0.0}
    return Made([replace(ensemble, metrics=metrics)], core_seconds=[0.0])


def load_parents(settings: Classifier, images: PackedImages, paths: Paths) -> list[Checkpoint]:
    """The teacher's or the members' networks, none where there is neither; `InputError` for those of other classes."""
    if settings.parent is None:
        return []
    checkpoints = load_members(paths.classifiers_of(settings.parent))
    for checkpoint in checkpoints:
        checkpoint.require_classes(images.classes)
    return checkpoints


def start_network(
    cell: str, settings: Classifier, images: PackedImages, paths: Paths, *, seed: int
) -> tuple[nn.Module, dict[str, float] | None]:
    """The network before training, and its parameters' shares of the learning rate."""
    classifier = build_classifier(
        settings.architecture,
        num_classes=images.num_classes,
        image_size=images.image_size,
        seed=seed,
        key=f"classifiers.{cell}.architecture",
    )
    if not isinstance(classifier, Pretrained):
        return classifier, None
    assert settings.weights is not None, "settings have seen to this"
    folder = paths.weights(settings.weights)
    names = [file.name for file in read_source(folder).files]
    if len(names) != 1:
        raise InputError(f"{folder}: expected one file of weights, got {names}")
    load_pretrained(classifier, folder / names[0], mean=images.channel_mean, std=images.channel_std)
    decay = settings.layer_decay
    return classifier, None if decay is None else classifier.rate_scales(decay)


def _silent(metrics: dict[str, float], *, step: int) -> None:
    """Further seeds leave their end in the summary, not their course."""
