"""How a map is made twice as large without checkerboards."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PHASES = 4  # each position becomes two by two


class EvenUpsampling(nn.Module):
    """(N, channels_in, h, w) to (N, channels_out, 2h, 2w): a sub-pixel convolution (Shi et al., 2016) of even response.

    Each of a position's four new ones has a 3x3 kernel of its own, so that an edge can lie between them; a surface
    without detail would come out as a checkerboard (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).
    Here each kernel's response to a constant is moved to the mean of the four, at every step and not only at first
    (Aitken et al., 2017): a constant map stays constant, apart from the border.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.channels_out = channels_out
        self.weight = nn.Parameter(torch.empty(_PHASES * channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's own convolutions

    def forward(self, inputs: Tensor) -> Tensor:
        phases = self.weight.view(self.channels_out, _PHASES, *self.weight.shape[1:])
        response = phases.sum(dim=(3, 4), keepdim=True)
        even = phases + (response.mean(dim=1, keepdim=True) - response) / 9
        bias = self.bias.repeat_interleave(_PHASES)
        return F.pixel_shuffle(F.conv2d(inputs, even.reshape_as(self.weight), bias, padding=1), 2)
