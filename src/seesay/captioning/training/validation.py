"""Validation of a captioner in training: the loss on human captions, and greedy captions to score."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.data.batches import (
    CaptionBatch,
    EncodedCaptions,
    Examples,
    ImageInputs,
    image_batches,
    ordered_batches,
)
from seesay.captioning.data.vocabulary import EOS, PAD
from seesay.captioning.decoding.decode import greedy_tokens
from seesay.captioning.networks.base import Captioner
from seesay.compute import Compute
from seesay.ranks import ALONE, Ranks

Score = Callable[[list[list[int]]], float]
"""Mean score of the captions of the val images: one caption per image, in the order of the records, as token ids of
words."""

BATCH_SIZE = 128


def validation_metrics(
    captioner: nn.Module,
    encoded: EncodedCaptions,
    images: Examples,
    rows: ImageInputs,
    *,
    max_length: int,
    score: Score | None,
    compute: Compute,
) -> dict[str, float]:
    """Return val/loss and val/perplexity of `encoded` and, with `score`, val/cider_d of greedy captions of `images`."""
    loss = mean_token_loss(captioner, encoded, rows, device=compute.device, ranks=compute.ranks)
    metrics = {"val/loss": loss, "val/perplexity": math.exp(min(loss, 700.0))}  # exp(710) overflows
    if score is not None:
        metrics["val/cider_d"] = score(
            greedy_captions(captioner, images, rows, max_length=max_length, device=compute.device, ranks=compute.ranks)
        )
    return metrics


def mean_token_loss(
    captioner: nn.Module,
    encoded: EncodedCaptions,
    features: ImageInputs,
    *,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> float:
    """Return the mean cross-entropy per token over all of `encoded`."""
    of_batches: list[tuple[float, int]] = []
    for batch in ordered_batches(encoded, features, batch_size=BATCH_SIZE, device=device, ranks=ranks):
        losses = token_losses(captioner, batch, label_smoothing=0.0)
        of_batches.append((float(losses.detach().double().sum()), len(losses)))
    total, num_tokens = 0.0, 0
    for of_batch, count in ranks.gather(of_batches):
        total, num_tokens = total + of_batch, num_tokens + count
    return total / num_tokens


def greedy_captions(
    captioner: nn.Module,
    images: Examples,
    features: ImageInputs,
    *,
    max_length: int,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> list[list[int]]:
    """Return the token ids of each image's greedy caption, without <eos>."""
    model = cast(Captioner, captioner)
    of_batches: list[list[list[int]]] = []
    for start in ranks.turns(range(0, len(images), BATCH_SIZE)):
        order = np.arange(start, min(start + BATCH_SIZE, len(images)))
        for batch in image_batches(images, features, order, batch_size=BATCH_SIZE, device=device):
            tokens, _ = greedy_tokens(model, model.memory(batch.features), max_length=max_length)
            of_batches.append([[token for token in ids if token > EOS] for ids in tokens.tolist()])
    return [caption for captions in ranks.gather(of_batches) for caption in captions]


def token_losses(captioner: nn.Module, batch: CaptionBatch, *, label_smoothing: float) -> Tensor:
    """Return the cross-entropies, float32, of all targets that are not <pad>, as one vector; only these cost logits."""
    model = cast(Captioner, captioner)  # or its compiled form
    targets = batch.targets.flatten()
    positions = (targets != PAD).nonzero().squeeze(1)
    hidden = model.hidden(batch.features, batch.inputs).flatten(0, 1).index_select(0, positions)
    logits = model.logits(hidden).float()
    assert logits.shape[1] == model.vocabulary_size, f"{logits.shape[1]} logits for {model.vocabulary_size} tokens"
    return F.cross_entropy(logits, targets[positions], label_smoothing=label_smoothing, reduction="none")
