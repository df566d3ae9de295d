"""How a captioner in training is asked for what it would say: without dropout, and without a trace in what follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def as_at_test(captioner: nn.Module) -> Iterator[None]:
    """`captioner` in evaluation mode inside the block.

    Under autocast, weights are cast once and kept. Casts made without gradient would take part in a later pass with
    one, and their weights would never learn: they are dropped.
    """
    was_training = captioner.training
    captioner.eval()
    try:
        yield
    finally:
        captioner.train(was_training)
        torch.clear_autocast_cache()
