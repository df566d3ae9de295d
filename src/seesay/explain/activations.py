"""What becomes of one image on its way through a convolutional network: the maps of most contrast at three depths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from seesay.explain.feature_maps import feature_maps, members_of


@dataclass(frozen=True)
class LayerMaps:
    """`maps`: float32 (k, h, w), not negative: of a convolution's `num_maps` those of most contrast, from the most on.

    It is convolution `number` (from 1) of the network's `num_layers`.
    """

    number: int
    num_layers: int
    num_maps: int
    maps: np.ndarray


def contrasting_maps(classifier: nn.Module, image: Tensor, *, count: int) -> list[LayerMaps]:
    """Of the first, the middle and the last convolution: the `count` maps whose positive part has the most contrast.

    That is the standard deviation over places: a map that is high everywhere says nothing of the image. `image` is
    (1, 3, S, S), normalised. Of an ensemble: its first member's. A network without convolutions has none.
    """
    found = feature_maps(members_of(classifier)[0], image)
    depths = sorted({0, len(found) // 2, len(found) - 1}) if found else []
    layers = []
    for depth in depths:
        maps = found[depth].maps[0].clamp_min(0)
        order = maps.std(dim=(1, 2)).argsort(descending=True, stable=True)[:count]
        layers.append(LayerMaps(depth + 1, len(found), len(maps), maps[order].cpu().numpy()))
    return layers
