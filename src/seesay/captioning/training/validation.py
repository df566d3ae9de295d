"""How good a captioner in training is on val: the loss of human captions, and what it says itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.data.batches import CaptionBatch, EncodedCaptions, Examples, Seen, image_batches, ordered_batches
from seesay.captioning.data.vocabulary import EOS, PAD
from seesay.captioning.decoding.decode import greedy_tokens
from seesay.captioning.networks.base import Captioner

Score = Callable[[list[list[int]]], float]
"""Mean score of the val images' captions: one a described image, in the order of the records, token ids of words."""

BATCH_SIZE = 128


def mean_token_loss(captioner: nn.Module, encoded: EncodedCaptions, features: Seen, *, device: torch.device) -> float:
    """Mean cross-entropy per token over all of `encoded`."""
    total, num_tokens = 0.0, 0
    for batch in ordered_batches(encoded, features, batch_size=BATCH_SIZE, device=device):
        losses = token_losses(captioner, batch, label_smoothing=0.0)
        total += float(losses.detach().double().sum())
        num_tokens += len(losses)
    return total / num_tokens


def greedy_captions(
    captioner: nn.Module, images: Examples, features: Seen, *, max_length: int, device: torch.device
) -> list[list[int]]:
    """Token ids of the greedy caption of each image, without <eos>."""
    model = cast(Captioner, captioner)
    said: list[list[int]] = []
    for batch in image_batches(images, features, np.arange(len(images)), batch_size=BATCH_SIZE, device=device):
        tokens, _ = greedy_tokens(model, model.memory(batch.features), max_length=max_length)
        said += [[token for token in ids if token > EOS] for ids in tokens.tolist()]
    return said


def token_losses(captioner: nn.Module, batch: CaptionBatch, *, label_smoothing: float) -> Tensor:
    """Cross-entropies, float32, of all targets that are not <pad>, as one vector; only these cost logits."""
    model = cast(Captioner, captioner)  # or its compiled form
    targets = batch.targets.flatten()
    taught = (targets != PAD).nonzero().squeeze(1)
    hidden = model.hidden(batch.features, batch.inputs).flatten(0, 1).index_select(0, taught)
    logits = model.logits(hidden).float()
    return F.cross_entropy(logits, targets[taught], label_smoothing=label_smoothing, reduction="none")
