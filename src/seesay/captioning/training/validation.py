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
    device: torch.device,
) -> dict[str, float]:
    """Return val/loss and val/perplexity of `encoded` and, with `score`, val/cider_d of greedy captions of `images`."""
    loss = mean_token_loss(captioner, encoded, rows, device=device)
    metrics = {"val/loss": loss, "val/perplexity": math.exp(min(loss, 700.0))}  # exp(710) overflows
    if score is not None:
        metrics["val/cider_d"] = score(greedy_captions(captioner, images, rows, max_length=max_length, device=device))
    return metrics


def mean_token_loss(
    captioner: nn.Module, encoded: EncodedCaptions, features: ImageInputs, *, device: torch.device
) -> float:
    """Return the mean cross-entropy per token over all of `encoded`."""
    total, num_tokens = 0.0, 0
    for batch in ordered_batches(encoded, features, batch_size=BATCH_SIZE, device=device):
        losses = token_losses(captioner, batch, label_smoothing=0.0)
        total += float(losses.detach().double().sum())
        num_tokens += len(losses)
    return total / num_tokens


def greedy_captions(
    captioner: nn.Module, images: Examples, features: ImageInputs, *, max_length: int, device: torch.device
) -> list[list[int]]:
    """Return the token ids of each image's greedy caption, without <eos>."""
    model = cast(Captioner, captioner)
    captions: list[list[int]] = []
    for batch in image_batches(images, features, np.arange(len(images)), batch_size=BATCH_SIZE, device=device):
        tokens, _ = greedy_tokens(model, model.memory(batch.features), max_length=max_length)
        captions += [[token for token in ids if token > EOS] for ids in tokens.tolist()]
    return captions


def token_losses(captioner: nn.Module, batch: CaptionBatch, *, label_smoothing: float) -> Tensor:
    """Return the cross-entropies, float32, of all targets that are not <pad>, as one vector; only these cost logits."""
    model = cast(Captioner, captioner)  # or its compiled form
    targets = batch.targets.flatten()
    positions = (targets != PAD).nonzero().squeeze(1)
    hidden = model.hidden(batch.features, batch.inputs).flatten(0, 1).index_select(0, positions)
    logits = model.logits(hidden).float()
    assert logits.shape[1] == model.vocabulary_size, f"{logits.shape[1]} logits for {model.vocabulary_size} tokens"
    return F.cross_entropy(logits, targets[positions], label_smoothing=label_smoothing, reduction="none")
