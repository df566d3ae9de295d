"""Classifier experiments: networks of several seeds, published weights, a teacher, ensembles."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from seesay.classification.networks.pretrained import Pretrained, load_pretrained
from seesay.classification.networks.registry import build_classifier, ensemble_of, load_members, restore_classifier
from seesay.classification.networks.resnets import fit_whitening
from seesay.classification.training.fit import evaluate_on_val, fit_classifier
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.packed import PackedImages
from seesay.params.classification import ENSEMBLE, Classifier
from seesay.sources.provenance import read_source
from seesay.training.checkpoint import Checkpoint
from seesay.training.loop import Log


@dataclass(frozen=True)
class TrainedClassifiers:
    """A checkpoint for each seed, and the core-seconds of its training."""

    checkpoints: list[Checkpoint]
    core_seconds: list[float]


def train_classifiers(
    cell: str,
    settings: Classifier,
    images: PackedImages,
    paths: Paths,
    *,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> TrainedClassifiers:
    """Train a network for each of the experiment's seeds (default: `seed`), or build an ensemble of trained ones.

    `log` receives the first network's epochs. With `resume`, a folder, each network goes on where it was interrupted,
    and those that have finished are not trained again. Raises `InputError` where the published weights or the
    classifier that this one starts from are missing or do not fit, and `TrainingError` as `fit` does.
    """
    parents = load_parents(settings, images, paths)
    if settings.architecture.name == ENSEMBLE:
        return _build_ensemble(settings, images, parents, compute=compute, log=log)
    checkpoints: list[Checkpoint] = []
    core_seconds: list[float] = []
    seeds = settings.seeds or (seed,)
    for index, network_seed in enumerate(seeds):
        if len(seeds) > 1:
            sys.stderr.write(f"network {index + 1} of {len(seeds)}, seed {network_seed}\n")
        classifier, rate_scales = start_network(cell, settings, images, paths, seed=network_seed)
        checkpoint, seconds = fit_classifier(
            classifier,
            images,
            settings,
            teacher=restore_classifier(parents[0]) if parents else None,
            rate_scales=rate_scales,
            seed=network_seed,
            compute=compute,
            log=log if index == 0 else _discard,
            resume=None if resume is None else resume / str(index),
        )
        checkpoints.append(checkpoint)
        core_seconds.append(seconds)
    return TrainedClassifiers(checkpoints, core_seconds)


def load_parents(settings: Classifier, images: PackedImages, paths: Paths) -> list[Checkpoint]:
    """Load the networks of the teacher or the members, if any; raise `InputError` where their classes differ."""
    if settings.parent is None:
        return []
    checkpoints = load_members(paths.classifiers_of(settings.parent))
    for checkpoint in checkpoints:
        checkpoint.require_classes(images.classes)
    return checkpoints


def start_network(
    cell: str, settings: Classifier, images: PackedImages, paths: Paths, *, seed: int
) -> tuple[nn.Module, dict[str, float] | None]:
    """Build the network before training; return it with its parameters' learning-rate factors (None: all 1)."""
    classifier = build_classifier(
        settings.architecture,
        num_classes=images.num_classes,
        image_size=images.image_size,
        seed=seed,
        key=f"classifiers.{cell}.architecture",
    )
    fit_whitening(classifier, images)
    if not isinstance(classifier, Pretrained):
        return classifier, None
    assert settings.weights is not None, "settings have seen to this"
    folder = paths.weights(settings.weights)
    names = [file.name for file in read_source(folder).files]
    if len(names) != 1:
        raise InputError(f"{folder}: expected one weights file, got {names}")
    load_pretrained(classifier, folder / names[0], mean=images.channel_mean, std=images.channel_std)
    decay = settings.layer_decay
    return classifier, None if decay is None else classifier.rate_scales(decay)


def _build_ensemble(
    settings: Classifier, images: PackedImages, members: list[Checkpoint], *, compute: Compute, log: Log
) -> TrainedClassifiers:
    if len(members) < 2:
        raise InputError(f"start: got {settings.start!r}: expected a classifier with at least two seeds")
    ensemble = ensemble_of(members)
    val_metrics = evaluate_on_val(restore_classifier(ensemble), images, compute=compute)
    log(val_metrics, step=0)
    metrics = {**val_metrics, "best_epoch": 0.0, "num_epochs": 0.0, "train/flops": 0.0}
    return TrainedClassifiers([replace(ensemble, metrics=metrics)], core_seconds=[0.0])


def _discard(metrics: dict[str, float], *, step: int) -> None:
    """Log nothing: of further seeds only the final metrics are recorded."""
