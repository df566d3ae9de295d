"""Training of captioners: steps on captions, or on samples by reward, with scheduled sampling where asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn

from seesay.captioning.data.batches import (
    CaptionBatch,
    ImageBatch,
    ImageInputs,
    encode_captions,
    image_batches,
    images_of,
    shuffled_batches,
)
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import EOS, NEVER_EMITTED, Vocabulary
from seesay.captioning.features.combined import CombinedFeatures, require_compatible
from seesay.captioning.features.store import Features
from seesay.captioning.networks.base import Captioner
from seesay.captioning.training.reward import Reward, evaluation_mode, self_critical_step
from seesay.captioning.training.validation import Score, token_losses, validation_metrics
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.params.captioning import CaptionerTraining, ScheduledSampling
from seesay.seeding import numpy_generator, torch_generator
from seesay.training.checkpoint import Checkpoint, describe_architecture
from seesay.training.checks import check_next_tokens
from seesay.training.loop import LOWEST_LOSS, BestBy, Fit, Log, fit
from seesay.training.steps import Step

BEST_BY = {"loss": LOWEST_LOSS, "cider_d": BestBy("val/cider_d", highest=True)}


class TrainingDataset(NamedTuple):
    """A caption dataset and the features of its images."""

    captions: CaptionRecords
    features: Features


TrainingBatch = tuple[CaptionBatch | ImageBatch, torch.Generator, float]
"""A batch, the epoch's random generator, and the share of input words to replace."""


@dataclass(frozen=True)
class Objective:
    """The batches of an epoch and the loss of a batch, as `fit` takes them."""

    num_batches: int
    batches: Callable[[int], Iterator[TrainingBatch]]
    compute_step: Callable[[nn.Module, TrainingBatch], Step]


def fit_captioner(
    captioner: Captioner,
    training_data: Sequence[TrainingDataset],
    vocabulary: Vocabulary,
    settings: CaptionerTraining,
    *,
    score: Score,
    reward: Reward | None,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> tuple[Checkpoint, float]:
    """Fit `captioner` on the train split of all of `training_data`; return its best epoch and the core-seconds spent.

    The best epoch is chosen on the val split of the first dataset, as `settings.best_by` says. The core-seconds are
    those of all epochs.

    Losses are means per token, <eos> included: train/loss with label smoothing, val/loss without. val/perplexity is
    exp(val/loss). val/cider_d is the `score` of greedy captions of the val images; it is computed only where it chooses
    the epoch. With `self_critical`, captions are sampled from the captioner and `reward` scores them: train/reward is
    their mean, train/unended the share cut at the maximum length. A captioner that starts from another keeps that one's
    feature scale. Raises `InputError` for a split without captions, for a single val image where CIDEr-D chooses the
    epoch, and for features that do not fit together, `TrainingError` where training fails.
    """
    assert captioner.vocabulary_size == len(vocabulary), "the captioner was built for another vocabulary"
    require_compatible(settings.features, [dataset.features for dataset in training_data])
    rows = CombinedFeatures([dataset.features for dataset in training_data], captioner.looks_at)
    datasets = [dataset.captions for dataset in training_data]
    if not settings.parents:
        train_images = images_of(datasets, "train")
        captioner.scale.measure(rows.sample_vectors(train_images.datasets, train_images.rows))
    best = fit_weights(
        captioner,
        datasets,
        rows,
        vocabulary,
        settings,
        score=score,
        reward=reward,
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
    )
    checkpoint = Checkpoint(
        kind="captioner",
        dataset=settings.datasets[0],
        dataset_digest=datasets[0].digest,
        classes=(),
        vocabulary_digest=vocabulary.digest,
        architecture=describe_architecture(settings.architecture),
        sizes={"vocabulary_size": len(vocabulary), "feature_size": training_data[0].features.num_dimensions},
        settings=settings.model_dump(mode="json"),
        normalisation={},
        state_dict=best.state_dict,
        metrics=best.metrics,
    )
    return checkpoint, best.core_seconds


def fit_weights(
    captioner: Captioner,
    datasets: Sequence[CaptionRecords],
    rows: ImageInputs,
    vocabulary: Vocabulary,
    settings: CaptionerTraining,
    *,
    score: Score,
    reward: Reward | None,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
    rate_scales: Mapping[str, float] | None = None,
) -> Fit:
    """Fit the weights of `captioner`, whose feature scale is set, as `fit_captioner` describes.

    `rows` are the captioner's inputs by image of the datasets. `rate_scales`: see `build_optimizer`.
    """
    assert settings.training is not None, "an ensemble is not trained"
    max_length = settings.max_caption_length
    val = encode_captions(datasets[:1], "val", vocabulary, max_caption_length=max_length)
    val_images = images_of(datasets[:1], "val")
    best_by = BEST_BY[settings.best_by]
    if settings.best_by == "cider_d" and len(val_images) == 1:  # its n-grams are in every image, so they weigh nothing
        raise InputError(
            f"{settings.datasets[0]}: got 1 val image: best_by: cider_d needs at least two, since the CIDEr-D of one "
            "image is always 0"
        )

    def evaluate(model: nn.Module) -> dict[str, float]:
        scored = score if best_by.metric == "val/cider_d" else None
        with compute.autocast():
            return validation_metrics(
                model, val, val_images, rows, max_length=max_length, score=scored, compute=compute
            )

    if settings.self_critical is None:
        objective = _cross_entropy(datasets, rows, vocabulary, settings, seed=seed, compute=compute)
    else:
        assert reward is not None, "self-critical training needs a reward"
        objective = _self_critical(datasets, rows, reward, settings, seed=seed, compute=compute)
    return fit(
        captioner,
        settings.training,
        batches=objective.batches,
        num_batches=objective.num_batches,
        compute_step=objective.compute_step,
        evaluate=evaluate,
        expected_first_loss=math.log(len(vocabulary)) if not settings.parents else None,
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
        rate_scales=rate_scales,
        best_by=best_by,
    )


def _cross_entropy(
    datasets: Sequence[CaptionRecords],
    rows: ImageInputs,
    vocabulary: Vocabulary,
    settings: CaptionerTraining,
    *,
    seed: int,
    compute: Compute,
) -> Objective:
    """Cross-entropy of human captions, with scheduled sampling where the settings have it."""
    train = encode_captions(datasets, "train", vocabulary, max_caption_length=settings.max_caption_length)
    device, ranks = compute.device, compute.ranks
    assert settings.training is not None
    batch_size, num_epochs = settings.training.batch_size, settings.training.epochs

    def batches(epoch: int) -> Iterator[TrainingBatch]:
        share = share_at(epoch, num_epochs, settings.scheduled_sampling)
        generator = torch_generator(seed, "scheduled_sampling", epoch, *ranks.stream, device=device)
        shuffled = shuffled_batches(
            train, rows, batch_size=batch_size, seed=seed, epoch=epoch, device=device, ranks=ranks
        )
        for number, batch in enumerate(shuffled):
            if number == 0:
                check_next_tokens(batch.inputs, batch.targets)
            yield batch, generator, share

    def compute_step(model: nn.Module, inputs: TrainingBatch) -> Step:
        batch, generator, share = inputs
        assert isinstance(batch, CaptionBatch)
        if share > 0.0:
            batch = replace_inputs(model, batch, share=share, generator=generator)
        losses = token_losses(model, batch, label_smoothing=settings.label_smoothing)
        return Step(losses.mean(), len(losses), {})

    return Objective(train.num_batches(batch_size), batches, compute_step)


def _self_critical(
    datasets: Sequence[CaptionRecords],
    rows: ImageInputs,
    reward: Reward,
    settings: CaptionerTraining,
    *,
    seed: int,
    compute: Compute,
) -> Objective:
    """Reward of captions that the captioner samples for the training images."""
    assert settings.self_critical is not None
    assert settings.training is not None
    device, ranks = compute.device, compute.ranks
    images, batch_size = images_of(datasets, "train"), settings.training.batch_size
    num_samples, max_length = settings.self_critical.num_samples, settings.max_caption_length

    def batches(epoch: int) -> Iterator[TrainingBatch]:
        order = numpy_generator(seed, "image_batches", epoch).permutation(len(images))
        generator = torch_generator(seed, "self_critical", epoch, *ranks.stream, device=device)
        views = numpy_generator(seed, "views", epoch)
        for batch in image_batches(images, rows, order, batch_size=batch_size, device=device, views=views, ranks=ranks):
            yield batch, generator, 0.0

    def compute_step(model: nn.Module, inputs: TrainingBatch) -> Step:
        batch, generator, _ = inputs
        assert isinstance(batch, ImageBatch)
        return self_critical_step(
            model, batch, num_samples=num_samples, max_length=max_length, reward=reward, generator=generator
        )

    return Objective(images.num_batches(batch_size), batches, compute_step)


def share_at(epoch: int, num_epochs: int, settings: ScheduledSampling | None) -> float:
    """Return the share of input words to replace in `epoch` (from 1): linear from 0 to `max_share` in the last."""
    if settings is None or num_epochs == 1:
        return 0.0
    return settings.max_share * (epoch - 1) / (num_epochs - 1)


def replace_inputs(
    captioner: nn.Module, batch: CaptionBatch, *, share: float, generator: torch.Generator
) -> CaptionBatch:
    """Return `batch` with about `share` of its input words sampled from the captioner; the targets stay.

    Parallel scheduled sampling (Duckworth et al., 2019) of one pass: the captioner reads the human words, without
    gradients and dropout, and its predictions are sampled at the positions to replace. This costs one extra forward
    pass for any architecture; sampling word by word is far slower. <bos>, <eos> and <pad> are never replaced, nor
    sampled. `generator` is on the batch's device.
    """
    chances = torch.rand(batch.inputs.shape, generator=generator, device=batch.inputs.device)
    replaced = (batch.inputs > EOS) & (chances < share)
    if not bool(replaced.any()):
        return batch
    model = cast(Captioner, captioner)
    with torch.no_grad(), evaluation_mode(captioner):
        # The prediction at one position is the input of the next. Only replaced positions cost logits.
        hidden = model.hidden(batch.features, batch.inputs[:, :-1])[replaced[:, 1:]]
        logits = model.logits(hidden).float()
        logits[:, [*NEVER_EMITTED, EOS]] = -torch.inf
        sampled = logits.softmax(dim=1).multinomial(1, generator=generator).squeeze(1)
    inputs = batch.inputs.clone()
    inputs[replaced] = sampled
    return CaptionBatch(batch.features, inputs, batch.targets)
