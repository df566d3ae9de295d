"""Where in an image an autoencoder's encoder answers most: its maps at chosen depths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.compute import Compute
from seesay.data.image_batches import load_images, ordered_batches
from seesay.data.packed_images import ImageSplit
from seesay.explain.feature_maps import feature_maps
from seesay.models.latent_autoencoder import LatentAutoencoder

MAX_BATCH = 64
"""Images at a time: what every module gives is kept until the maps are picked."""


class Encoder(nn.Module):
    """The encoding half of an autoencoder as a network of its own; images (n, 3, S, S) in [0, 1]."""

    def __init__(self, autoencoder: LatentAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.hidden: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images, self.hidden)


@dataclass(frozen=True)
class EncoderMaps:
    """Of convolution `number` (from 1) of the encoder's `num_layers`, for n images.

    `strongest`: float32 (n, S, S) in [0, 1], each image's map of most contrast, enlarged and scaled to its largest
    value. `strength`: float32 (n, S, S), the root of the mean square over all of the layer's maps, enlarged: how much
    the encoder answers to each place.
    """

    number: int
    num_layers: int
    side: int
    strongest: np.ndarray
    strength: np.ndarray


def encoder_maps(
    autoencoder: LatentAutoencoder,
    split: ImageSplit,
    depths: Sequence[float],
    *,
    batch_size: int,
    compute: Compute,
    hidden: np.ndarray | None = None,
) -> list[EncoderMaps]:
    """Of the convolutions that make a map those at `depths`, from 0, the first, to 1, the last; none for an encoder
    without convolutions.

    The last is not the one that only mixes channels into latents where a backbone comes before it, but the backbone's.
    Pixels where `hidden`, bool (n, S, S), are not shown.
    """
    encoder = Encoder(compute.place(autoencoder).eval())
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=compute.device)
    batch_size = min(batch_size, MAX_BATCH)
    chosen: list[int] = []
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = []
    sides: list[int] = []
    num_layers = 0
    for number, (images, _) in enumerate(ordered_batches(loaded, batch_size=batch_size)):
        if hidden is not None:
            encoder.hidden = torch.from_numpy(hidden[number * batch_size :][: len(images)])[:, None].to(compute.device)
        found = [one for one in feature_maps(encoder, images) if one.convolution.kernel_size != (1, 1)]
        if not found:
            return []
        if not parts:
            num_layers = len(found)
            chosen = sorted({layer_at(depth, num_layers) for depth in depths})
            parts = [[] for _ in chosen]
            sides = [found[layer].maps.shape[-1] for layer in chosen]
        for column, layer in zip(parts, chosen, strict=True):
            column.append(_of_layer(found[layer].maps, size=split.images.shape[1]))
    return [
        EncoderMaps(layer + 1, num_layers, side, *(np.concatenate(one) for one in zip(*column, strict=True)))
        for layer, side, column in zip(chosen, sides, parts, strict=True)
    ]


def layer_at(depth: float, num_layers: int) -> int:
    """Which of `num_layers` layers, from 0, lies nearest to `depth`, 0 to 1; of two as near the deeper."""
    return math.floor(depth * (num_layers - 1) + 0.5)


def _of_layer(maps: Tensor, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    positive = maps.float().clamp_min(0)
    chosen = positive.std(dim=(2, 3)).argmax(dim=1)
    strongest = positive[torch.arange(len(maps), device=maps.device), chosen]
    strength = maps.float().square().mean(dim=1).sqrt()
    large = [
        F.interpolate(one[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        for one in (strongest, strength)
    ]
    tiny = torch.finfo(torch.float32).tiny
    scaled = large[0] / large[0].amax(dim=(1, 2), keepdim=True).clamp_min(tiny)
    return scaled.cpu().numpy(), large[1].cpu().numpy()
