"""Everything that is shown of why one classifier answers as it does, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seesay.classification.class_maps import ClassMaps, class_maps, feature_maps, members_of
from seesay.compute import Compute
from seesay.images.augment.pipeline import normalise
from seesay.images.packed import PackedImages

MAPS_PER_LAYER = 8

MAX_EXAMPLES = 8
"""More, each with up to three pictures, would be too much to look at."""


@dataclass(frozen=True)
class Explanation:
    """Of the test images at `chosen`: what speaks for the `predicted` and for the `true` class (equal if it is right).

    `layers` are maps of the first of them; empty for a network without convolutions.
    """

    chosen: np.ndarray
    predicted: ClassMaps
    true: ClassMaps
    filters: Filters | None
    layers: list[LayerMaps]


def explain_classifier(
    classifier: nn.Module, images: PackedImages, predicted: np.ndarray, chosen: np.ndarray, *, compute: Compute
) -> Explanation:
    """`predicted` (N,) are the classes it gives the test images, of which those at `chosen` are explained; float32."""
    classifier = classifier.to(compute.device).eval()
    pixels = torch.from_numpy(np.array(images.test.images[chosen])).to(compute.device)
    batch = normalise(pixels, mean=images.channel_mean, std=images.channel_std)

    def maps_for(classes: np.ndarray) -> ClassMaps:
        return class_maps(classifier, batch, torch.tensor(classes[chosen], dtype=torch.int64, device=compute.device))

    return Explanation(
        chosen=chosen,
        predicted=maps_for(predicted),
        true=maps_for(images.test.labels),
        filters=first_filters(classifier, image_size=images.image_size),
        layers=contrasting_maps(classifier, batch[:1], count=MAPS_PER_LAYER),
    )


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
