"""What the first layer of a network looks for: its weights as small colour pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seesay.explain.feature_maps import feature_maps, members_of

MAX_FILTERS = 64
MAX_UNITS = 12


@dataclass(frozen=True)
class Filters:
    """`pictures`: float32 (n, H, W, 3) RGB in [0, 1], 0.5 where a weight is zero, each scaled to its largest weight.

    They are the first n of the layer's `num_filters`; `is_convolution` is false for the units of a dense layer, whose
    pictures are as large as the images.
    """

    pictures: np.ndarray
    num_filters: int
    is_convolution: bool


def first_filters(classifier: nn.Module, *, image_size: int) -> Filters | None:
    """The weights of the first convolution, or of the first dense layer on pixels where there is none; of an ensemble,
    its first member's. None for a network that begins with neither."""
    network = members_of(classifier)[0]
    device = next(network.parameters()).device
    if found := feature_maps(network, torch.zeros(1, 3, image_size, image_size, device=device)):
        weight = found[0].convolution.weight
        assert weight.shape[1] == 3, "the first convolution sees the image"
        return Filters(_as_pictures(weight[:MAX_FILTERS]), len(weight), is_convolution=True)
    dense = next((one for one in network.modules() if isinstance(one, nn.Linear)), None)
    if dense is None or dense.in_features != 3 * image_size**2:
        return None
    weight = dense.weight.reshape(-1, 3, image_size, image_size)
    return Filters(_as_pictures(weight[:MAX_UNITS]), len(weight), is_convolution=False)


def _as_pictures(weight: Tensor) -> np.ndarray:
    """(n, 3, H, W) weights of any scale to (n, H, W, 3) in [0, 1]."""
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    pictures: np.ndarray = (0.5 + 0.5 * weight.detach() / largest).permute(0, 2, 3, 1).cpu().numpy()
    return pictures
