"""Scheduled sampling: in training, some input words are the captioner's own, as they are in decoding."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from seesay.captioning.data.batches import CaptionBatch
from seesay.captioning.data.vocabulary import EOS, NEVER_EMITTED
from seesay.captioning.networks.base import Captioner
from seesay.captioning.training.self_critical import evaluation_mode
from seesay.params.captioning import ScheduledSampling


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
