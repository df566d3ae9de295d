"""What a captioner learns: the next word of human captions, given the image and the words before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.compute import Compute
from seesay.data.caption_batches import (
    CaptionBatch,
    EncodedCaptions,
    encode_captions,
    ordered_batches,
    shuffled_batches,
)
from seesay.data.caption_records import CaptionRecords
from seesay.data.features import Features
from seesay.data.vocabulary import PAD, Vocabulary
from seesay.models.captioner import Captioner
from seesay.models.checkpoint import Checkpoint, describe_architecture
from seesay.params.captioning import CaptionerTraining
from seesay.training.loop import Log, Step, fit


def fit_captioner(
    captioner: Captioner,
    captions: CaptionRecords,
    vocabulary: Vocabulary,
    features: Features,
    settings: CaptionerTraining,
    *,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> Checkpoint:
    """Fits `captioner` on the train captions; returns the epoch of the lowest cross-entropy on the val captions.

    Losses are means per token, <eos> included: train/loss with label smoothing, val/loss without; val/perplexity is
    exp(val/loss). Raises `InputError` for a split without captions, `TrainingError` where training goes wrong.
    """
    assert captioner.vocabulary_size == len(vocabulary), "the captioner was built for another vocabulary"
    train, val = (
        encode_captions(captions, split, vocabulary, max_caption_length=settings.max_caption_length)
        for split in ("train", "val")
    )
    captioner.scale.measure(torch.from_numpy(features.pooled[np.unique(train.rows)]))
    batch_size = settings.training.batch_size

    def batches(epoch: int) -> Iterator[CaptionBatch]:
        return shuffled_batches(train, features, batch_size=batch_size, seed=seed, epoch=epoch, device=compute.device)

    def compute_step(model: nn.Module, batch: CaptionBatch) -> Step:
        losses = token_losses(model, batch, label_smoothing=settings.label_smoothing)
        return Step(losses.mean(), len(losses), {})

    def evaluate(model: nn.Module) -> dict[str, float]:
        loss = mean_token_loss(model, val, features, batch_size=batch_size, compute=compute)
        return {"val/loss": loss, "val/perplexity": math.exp(min(loss, 700.0))}  # exp(710) overflows

    best = fit(
        captioner,
        settings.training,
        batches=batches,
        num_batches=train.num_batches(batch_size),
        compute_step=compute_step,
        evaluate=evaluate,
        expected_first_loss=math.log(len(vocabulary)),
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
    )
    return Checkpoint(
        kind="captioner",
        dataset=settings.dataset,
        dataset_digest=captions.digest,
        classes=(),
        vocabulary_digest=vocabulary.digest,
        architecture=describe_architecture(settings.architecture),
        sizes={"vocabulary_size": len(vocabulary), "feature_size": features.num_dimensions},
        settings=settings.model_dump(mode="json"),
        normalisation={},
        state_dict=best.state_dict,
        metrics=best.metrics,
    )


def token_losses(captioner: nn.Module, batch: CaptionBatch, *, label_smoothing: float) -> Tensor:
    """Cross-entropies, float32, of all targets that are not <pad>, as one vector; only these cost logits."""
    model = cast(Captioner, captioner)  # or its compiled form
    targets = batch.targets.flatten()
    taught = (targets != PAD).nonzero().squeeze(1)
    hidden = model.hidden(batch.features, batch.inputs).flatten(0, 1).index_select(0, taught)
    logits = model.logits(hidden).float()
    return F.cross_entropy(logits, targets[taught], label_smoothing=label_smoothing, reduction="none")


def mean_token_loss(
    captioner: nn.Module, encoded: EncodedCaptions, features: Features, *, batch_size: int, compute: Compute
) -> float:
    """Mean cross-entropy per token over all of `encoded`."""
    totals, num_tokens = 0.0, 0
    for batch in ordered_batches(encoded, features, batch_size=batch_size, device=compute.device):
        losses = token_losses(captioner, batch, label_smoothing=0.0)
        totals += float(losses.detach().double().sum())
        num_tokens += len(losses)
    return totals / num_tokens
