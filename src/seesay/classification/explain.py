"""The explanation of one classifier as arrays: class maps, first-layer filters and activation maps."""

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
MAX_FILTERS = 64
MAX_UNITS = 12

MAX_EXAMPLES = 8
"""Each example takes up to three pictures; more would be too many to look at."""


@dataclass(frozen=True)
class Explanation:
    """Class maps of the test images with the indices `chosen`, and the network's filters and activations.

    `predicted` and `true` are the maps of the predicted and the true class, equal if the prediction is correct.
    `layers` are activation maps of the first of these images; a network without convolutions has none.
    """

    chosen: np.ndarray
    predicted: ClassMaps
    true: ClassMaps
    filters: Filters | None
    layers: list[LayerMaps]


@dataclass(frozen=True)
class Filters:
    """The weights of the first layer as pictures.

    `pictures` are float32 (n, H, W, 3) RGB in [0, 1], 0.5 where a weight is zero, each scaled to its largest weight.
    They are the first n of the layer's `num_filters`. `is_convolution` is false for the units of a dense layer, whose
    pictures are as large as the images.
    """

    pictures: np.ndarray
    num_filters: int
    is_convolution: bool


@dataclass(frozen=True)
class LayerMaps:
    """Activation maps of one convolution for one image.

    `maps` are float32 (k, h, w), not negative: those with the highest contrast of the convolution's `num_maps`, in
    descending order. `number` (from 1) is the convolution's position among the network's `num_layers`.
    """

    number: int
    num_layers: int
    num_maps: int
    maps: np.ndarray


def explain_classifier(
    classifier: nn.Module, images: PackedImages, predicted: np.ndarray, chosen: np.ndarray, *, compute: Compute
) -> Explanation:
    """Explain the predictions for the test images with the indices `chosen`, in float32.

    `predicted` (N,) are the predicted classes of all test images.
    """
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


def first_filters(classifier: nn.Module, *, image_size: int) -> Filters | None:
    """Return the weights of the convolution of the image or, without one, of a first dense layer on pixels.

    For an ensemble they are those of its first member. None for a network that begins with neither layer.
    """
    network = members_of(classifier)[0]
    weights = [module.weight for module in network.modules() if isinstance(getattr(module, "weight", None), Tensor)]
    of_images = [one for one in weights if isinstance(one, Tensor) and one.dim() == 4 and one.shape[1] == 3]
    if of_images:  # not of nn.Conv2d alone: whitening is none
        weight = of_images[0]
        return Filters(_as_pictures(weight[:MAX_FILTERS]), len(weight), is_convolution=True)
    dense = next((module for module in network.modules() if isinstance(module, nn.Linear)), None)
    if dense is None or dense.in_features != 3 * image_size**2:
        return None
    weight = dense.weight.reshape(-1, 3, image_size, image_size)
    return Filters(_as_pictures(weight[:MAX_UNITS]), len(weight), is_convolution=False)


def contrasting_maps(classifier: nn.Module, image: Tensor, *, count: int) -> list[LayerMaps]:
    """Return the `count` maps whose positive part has the highest contrast, for three convolutions at most.

    These are the first, the middle and the last convolution of a network, or of an ensemble's first member; a network
    without convolutions has none. Contrast is the standard deviation over positions: a map that is high everywhere
    says nothing about the image. `image` is (1, 3, S, S), normalised.
    """
    convolutions = feature_maps(members_of(classifier)[0], image)
    depths = sorted({0, len(convolutions) // 2, len(convolutions) - 1}) if convolutions else []
    layers = []
    for depth in depths:
        maps = convolutions[depth].maps[0].clamp_min(0)
        order = maps.std(dim=(1, 2)).argsort(descending=True, stable=True)[:count]
        layers.append(LayerMaps(depth + 1, len(convolutions), len(maps), maps[order].cpu().numpy()))
    return layers


def _as_pictures(weight: Tensor) -> np.ndarray:
    """Convert (n, 3, H, W) weights of any scale to (n, H, W, 3) in [0, 1]."""
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    pictures: np.ndarray = (0.5 + 0.5 * weight.detach() / largest).permute(0, 2, 3, 1).cpu().numpy()
    return pictures
