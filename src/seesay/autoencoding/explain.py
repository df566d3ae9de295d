"""Everything that is shown of what an autoencoder looks at beside what it draws, as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.classification.class_maps import class_maps, feature_maps
from seesay.compute import Compute
from seesay.images.augment.pipeline import normalise
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageSplit, PackedImages
from seesay.params.autoencoding import Masking
from seesay.params.results import EncoderMaps as EncoderMapsSettings
from seesay.seeding import numpy_generator

GRAD_CAM = "grad_cam"


@dataclass(frozen=True)
class AutoencoderExplanation:
    """Of all n test images: what the encoder's `layers` answer to; with a classifier, `class_maps`, float32 (n, S, S),
    what speaks for the class that it gives the image whole; and how these agree with small errors."""

    layers: list[EncoderMaps]
    class_maps: np.ndarray | None
    agreements: list[Agreement]

    def metrics(self) -> dict[str, float]:
        """Of each agreement; `num_layers` is how many convolutions the encoder has."""
        num_layers = self.layers[0].num_layers if self.layers else 0
        numbers = {"num_layers": float(num_layers)}
        for one in self.agreements:
            numbers |= one.metrics()
        return numbers


def explain_autoencoder(
    autoencoder: LatentAutoencoder,
    classifier: nn.Module | None,
    images: PackedImages,
    squared_errors: np.ndarray,
    settings: EncoderMapsSettings,
    *,
    hidden: np.ndarray | None,
    masking: Masking | None,
    batch_size: int,
    compute: Compute,
) -> AutoencoderExplanation:
    """`squared_errors` (n, S, S) are of the reconstructions, of images of which the pixels where `hidden` (n, S, S),
    patches of `masking`, were not shown."""
    patches = None
    if hidden is not None and masking is not None:
        patches = hidden[:, :: masking.patch_size, :: masking.patch_size]
    layers = encoder_maps(
        autoencoder, images.test, settings.depths, batch_size=batch_size, compute=compute, hidden=hidden
    )
    of_class = None
    if classifier is not None:
        of_class = predicted_class_maps(classifier, images, batch_size=batch_size, compute=compute)
    compared = {} if of_class is None else {GRAD_CAM: of_class}
    compared |= {f"layer{layer.number}": layer.strength for layer in layers}
    found = [
        agreement(name, maps, squared_errors, patches=patches, seed=settings.seed) for name, maps in compared.items()
    ]
    return AutoencoderExplanation(layers, of_class, [one for one in found if one is not None])


def predicted_class_maps(
    classifier: nn.Module, images: PackedImages, *, batch_size: int, compute: Compute
) -> np.ndarray:
    """What in each test image speaks for the class that `classifier` gives it: float32 (n, S, S) in [0, 1]."""
    classifier = classifier.to(compute.device).eval()
    parts = []
    for start in range(0, len(images.test), batch_size):
        pixels = torch.from_numpy(np.array(images.test.images[start : start + batch_size])).to(compute.device)
        batch = normalise(pixels, mean=images.channel_mean, std=images.channel_std)
        with torch.no_grad():
            predicted = classifier(batch).argmax(dim=1)
        parts.append(class_maps(classifier, batch, predicted).maps)
    return np.concatenate(parts)


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


CELLS = 8
"""Squares a side that an image is divided into where nothing is hidden; single pixels of an error are noise."""


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlations, float64 (n,), of a map and the negative error, over the squares of each image: 1
    where the map is highest exactly where the error is least. `shuffled`: with the map of another image instead.

    An image whose map, borrowed map or error is the same everywhere has no ranks, and is left out of both.
    """

    name: str
    correlations: np.ndarray
    shuffled: np.ndarray

    def metrics(self) -> dict[str, float]:
        """The means: `agreement/<name>` and `agreement/<name>_shuffled`."""
        return {
            f"agreement/{self.name}": float(np.mean(self.correlations)),
            f"agreement/{self.name}_shuffled": float(np.mean(self.shuffled)),
        }


def agreement(
    name: str, maps: np.ndarray, squared_errors: np.ndarray, *, patches: np.ndarray | None, seed: int
) -> Agreement | None:
    """`maps` and `squared_errors` are (n, S, S), of the same images; None where fewer than two have ranks.

    `patches`, bool (n, P, P), are those that were hidden, as many in each image: only they are compared, as nothing
    else is completed; None compares all squares. `seed` draws whose map each image gets in the control: each map is
    used once, none by its own image.
    """
    cells = num_cells(maps.shape[1]) if patches is None else patches.shape[1]
    heights, errors = per_cell(maps, cells), per_cell(squared_errors, cells)
    everywhere = np.ones(heights.shape, dtype=bool)
    compared = everywhere if patches is None else patches.reshape(len(patches), -1)
    places = np.nonzero(compared)[1].reshape(len(heights), -1)
    # A cycle through the images in random order: nobody gets back its own.
    order = numpy_generator(seed, "agreement").permutation(len(heights))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    own, theirs, small = (np.take_along_axis(one, places, axis=1) for one in (heights, heights[others], -errors))
    known = np.all([np.ptp(one, axis=1) > 0 for one in (own, theirs, small)], axis=0)
    if known.sum() < 2:
        return None
    own, theirs, small = own[known], theirs[known], small[known]
    return Agreement(name, rank_correlation(own, small), rank_correlation(theirs, small))


def num_cells(size: int) -> int:
    """Squares a side for images of `size` pixels: CELLS, or as many below it as divide the image evenly."""
    return next(count for count in range(min(CELLS, size), 0, -1) if size % count == 0)


def per_cell(values: np.ndarray, cells: int) -> np.ndarray:
    """Means over the squares of each image, `cells` a side: (n, S, S) to float64 (n, cells^2)."""
    step = values.shape[1] // cells
    means: np.ndarray = values.reshape(len(values), cells, step, cells, step).mean(axis=(2, 4), dtype=np.float64)
    return means.reshape(len(values), -1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of `first` with that of `second`, (n, k) to float64 (n,)."""
    ranks = [rankdata(rows, axis=1) for rows in (first, second)]
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in ranks]
    scale = np.sqrt(np.square(centred[0]).sum(axis=1) * np.square(centred[1]).sum(axis=1))
    correlations: np.ndarray = (centred[0] * centred[1]).sum(axis=1) / scale
    return correlations
