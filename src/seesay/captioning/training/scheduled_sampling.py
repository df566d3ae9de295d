"""How a captioner in training sees some of its own words instead of a person's, as it will when it says captions."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from seesay.captioning.data.batches import CaptionBatch
from seesay.captioning.data.vocabulary import EOS, NEVER_EMITTED
from seesay.captioning.networks.base import Captioner
from seesay.captioning.training.self_critical import as_at_test
from seesay.params.captioning import ScheduledSampling


def share_at(epoch: int, num_epochs: int, settings: ScheduledSampling | None) -> float:
    """Share of input words that `epoch` (from 1) replaces: evenly from 0 in the first to `max_share` in the last."""
    if settings is None or num_epochs == 1:
        return 0.0
    return settings.max_share * (epoch - 1) / (num_epochs - 1)


def with_own_words(
    captioner: nn.Module, batch: CaptionBatch, *, share: float, generator: torch.Generator
) -> CaptionBatch:
    """`batch` with about `share` of its input words drawn by the captioner; the targets stay.

    Parallel scheduled sampling (Duckworth et al., 2019), of one pass: the captioner reads the human words, without
    gradient and dropout, and what it expects after them is drawn where words are replaced. One pass more for any
    architecture, where drawing word by word is a slow walk. <bos>, <eos> and <pad> are never replaced, nor drawn.
    `generator` is on the batch's device.
    """
    chances = torch.rand(batch.inputs.shape, generator=generator, device=batch.inputs.device)
    replaced = (batch.inputs > EOS) & (chances < share)
    if not bool(replaced.any()):
        return batch
    model = cast(Captioner, captioner)
    with torch.no_grad(), as_at_test(captioner):
        # What is expected at one position is the input of the next; only where it is wanted it costs logits.
        hidden = model.hidden(batch.features, batch.inputs[:, :-1])[replaced[:, 1:]]
        logits = model.logits(hidden).float()
        logits[:, [*NEVER_EMITTED, EOS]] = -torch.inf
        drawn = logits.softmax(dim=1).multinomial(1, generator=generator).squeeze(1)
    inputs = batch.inputs.clone()
    inputs[replaced] = drawn
    return CaptionBatch(batch.features, inputs, batch.targets)
