"""Everything that is shown of why one classifier answers as it does, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seesay.compute import Compute
from seesay.data.augmentation import normalise
from seesay.data.packed_images import PackedImages
from seesay.explain.activations import LayerMaps, contrasting_maps
from seesay.explain.class_maps import ClassMaps, class_maps
from seesay.explain.filters import Filters, first_filters

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
