"""Captioner experiments: the weights that training starts from, and ensembles of trained captioners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from seesay.captioning.data.batches import encode_captions, images_of
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.features.combined import CaptionerInputs
from seesay.captioning.features.store import Features
from seesay.captioning.networks.base import Captioner
from seesay.captioning.networks.registry import build_captioner, ensemble_of, restore_captioner
from seesay.captioning.training.validation import Score, validation_metrics
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.params.captioning import CaptionerTraining
from seesay.training.build import load_weights
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint
from seesay.training.loop import Log


def start_captioner(
    cell: str, settings: CaptionerTraining, vocabulary: Vocabulary, paths: Paths, *, feature_size: int, seed: int
) -> Captioner:
    """Return the captioner before training.

    Raises `InputError` where the captioner that it starts from is missing, or has another architecture, vocabulary or
    feature size.
    """
    captioner = build_captioner(
        settings.architecture,
        vocabulary_size=len(vocabulary),
        feature_size=feature_size,
        seed=seed,
        key=f"captioners.{cell}.learning.architecture",
    )
    for parent in settings.parents:
        initial = load_checkpoint(paths.captioner(parent), kind="captioner")
        _require_compatible(cell, settings, initial, vocabulary, feature_size=feature_size)
        load_weights(captioner, initial.state_dict)
    return captioner


def build_ensemble(
    settings: CaptionerTraining,
    captions: CaptionRecords,
    features: Sequence[Features],
    vocabulary: Vocabulary,
    paths: Paths,
    *,
    score: Score,
    compute: Compute,
    log: Log,
) -> Checkpoint:
    """Combine the captioners of `settings.start`; `features` are those of `settings.features`, in that order.

    `log` receives the metrics on val that training a captioner has, and the checkpoint has them. Raises `InputError`
    where a member is missing or does not fit the vocabulary or the features.
    """
    members = {name: load_checkpoint(paths.captioner(name), kind="captioner") for name in settings.parents}
    for member in members.values():
        member.require_vocabulary(vocabulary.digest)
    places = [None if one.grid is None else one.grid.shape[1] for one in features]
    ensemble = ensemble_of(members, settings.features, places=places)
    captioner = restore_captioner(ensemble).to(compute.device)
    with torch.no_grad(), compute.autocast():
        metrics = validation_metrics(
            captioner,
            encode_captions([captions], "val", vocabulary, max_caption_length=settings.max_caption_length),
            images_of([captions], "val"),
            CaptionerInputs(captioner.inputs(), features),
            max_length=settings.max_caption_length,
            score=score if settings.best_by == "cider_d" else None,
            device=compute.device,
        )
    log(metrics, step=0)
    metrics |= {"best_epoch": 0.0, "num_epochs": 0.0}
    return replace(
        ensemble,
        dataset=captions.name,
        dataset_digest=captions.digest,
        settings=settings.model_dump(mode="json"),
        metrics=metrics,
    )


def _require_compatible(
    cell: str, settings: CaptionerTraining, initial: Checkpoint, vocabulary: Vocabulary, *, feature_size: int
) -> None:
    key = f"captioners.{cell}.learning"
    for name, ours, theirs in (
        ("vocabulary", vocabulary.digest[:12], initial.vocabulary_digest[:12]),
        ("architecture", describe_architecture(settings.architecture), initial.architecture),
        ("features", feature_size, initial.sizes["feature_size"]),
    ):
        if ours != theirs:
            raise InputError(
                f"{key}.{name}: got {ours}: expected {theirs}, that of {settings.parents[0]}, which it starts from; "
                f"change it, or train {settings.parents[0]} again"
            )
