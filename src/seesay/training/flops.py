"""Floating-point operations of a network's forward pass."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_flops(network: nn.Module, *, image_size: int) -> int:
    """Count the floating-point operations of one image's forward pass, two per multiply-add, with PyTorch's counter."""
    was_training = network.training
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    network.train(was_training)
    return int(counter.get_total_flops())
