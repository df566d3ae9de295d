"""How wrong a captioner is about the next words of human captions."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from seesay.data.caption_batches import CaptionBatch
from seesay.data.vocabulary import PAD
from seesay.models.captioner import Captioner


def token_losses(captioner: nn.Module, batch: CaptionBatch, *, label_smoothing: float) -> Tensor:
    """Cross-entropies, float32, of all targets that are not <pad>, as one vector; only these cost logits."""
    model = cast(Captioner, captioner)  # or its compiled form
    targets = batch.targets.flatten()
    taught = (targets != PAD).nonzero().squeeze(1)
    hidden = model.hidden(batch.features, batch.inputs).flatten(0, 1).index_select(0, taught)
    logits = model.logits(hidden).float()
    return F.cross_entropy(logits, targets[taught], label_smoothing=label_smoothing, reduction="none")
