"""Captioner experiments: what they start from, ensembles, and fine-tuning of encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seesay.captioning.data.batches import ImageInputs, encode_captions, images_of
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.features.combined import CaptionerInputs
from seesay.captioning.features.encoders import FeatureEncoder
from seesay.captioning.features.store import Features
from seesay.captioning.features.trainable import TrainableEncoder, unfreeze
from seesay.captioning.networks.base import Captioner, Memory, State
from seesay.captioning.networks.registry import build_captioner, ensemble_of, learned_from, restore_captioner
from seesay.captioning.training.fit import fit_weights
from seesay.captioning.training.validation import Score, validation_metrics
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import validate
from seesay.params.captioning import CaptionerTraining, FinetunedEncoder
from seesay.params.training import CAPTIONERS
from seesay.training.build import load_weights
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint
from seesay.training.loop import Fit, Log


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
            compute=compute,
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


def finetune_encoder(
    trainable: TrainableEncoder,
    trained: Checkpoint,
    captions: CaptionRecords,
    pixels: ImageInputs,
    vocabulary: Vocabulary,
    settings: FinetunedEncoder,
    *,
    key: str,
    score: Score,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> Fit:
    """Fit the encoder and the captioner of `trained` on the train captions.

    Afterwards `trainable` has the weights of the best epoch, chosen on val by the criterion of the captioner's own
    training. `pixels` has the images by row of the captions' records; `key` names `settings` in errors. The captioner
    starts from its trained weights and keeps its feature scale. Metrics are those of `fit_captioner`. Raises
    `InputError` where all blocks are frozen or the captioner has another vocabulary, `TrainingError` where training
    fails.
    """
    trained.require_vocabulary(vocabulary.digest)
    names = unfreeze(trainable.encoder, settings.frozen_blocks, key=f"{key}.frozen_blocks")
    captioner = EndToEndCaptioner(trainable.encoder, restore_captioner(trained))
    best = fit_weights(
        captioner,
        [captions],
        pixels,
        vocabulary,
        finetuning_settings(trained, settings),
        score=score,
        reward=None,
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
        rate_scales={f"encoder.{name}": settings.encoder_rate for name in names},
    )
    load_weights(captioner, best.state_dict)
    return best


def finetuning_settings(trained: Checkpoint, settings: FinetunedEncoder) -> CaptionerTraining:
    """Return the captioner's own settings, for human captions of its first dataset, with the `training` of these."""
    learned = learned_from(trained)
    changed: dict[str, Any] = {
        "datasets": learned.datasets[:1],
        "features": learned.features[:1],
        "start": [f"{CAPTIONERS}/{settings.captioner}"],
        "scheduled_sampling": None,
        "self_critical": None,
        "training": settings.training.model_dump(mode="json"),
    }
    merged: CaptionerTraining = validate({**trained.settings, **changed}, CaptionerTraining, where="checkpoint")
    return merged


class EndToEndCaptioner(Captioner):
    """An encoder before a captioner; its features are pixels, uint8 RGB (N, 3, H, W).

    The encoder stays in evaluation mode, without dropout: small batches would spoil the statistics of its batch norms.
    """

    def __init__(self, encoder: FeatureEncoder, captioner: Captioner) -> None:
        super().__init__()
        self.encoder = encoder
        self.captioner = captioner
        self.vocabulary_size = captioner.vocabulary_size

    def train(self, mode: bool = True) -> EndToEndCaptioner:
        super().train(mode)
        self.encoder.eval()
        return self

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.captioner.hidden(self._encode(features), tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.captioner.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        return self.captioner.memory(self._encode(features))

    def initial_state(self, memory: Memory) -> State:
        return self.captioner.initial_state(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        return self.captioner.step(tokens, state, memory)

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.captioner.attention(self._encode(features), tokens)

    def _encode(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images)[self.captioner.looks_at]
        return features
