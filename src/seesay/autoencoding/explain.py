"""Explanations of an autoencoder as arrays: the encoder's feature maps, Grad-CAM, and their correlation with errors."""

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

MAX_BATCH = 64
"""Largest number of images at a time: the outputs of all modules stay in memory until the maps are selected."""

MAX_GRID_SIZE = 8
"""Squares per side that an image is divided into where nothing is hidden. The error of a single pixel is too noisy."""


@dataclass(frozen=True)
class EncoderMaps:
    """The feature maps of one convolution of the encoder, for n images.

    `number`, from 1, counts the encoder's `num_layers` convolutions from the image. `side` is the maps' original size.
    `strongest`, float32 (n, S, S) in [0, 1], is each image's map of highest contrast, enlarged and scaled to its
    maximum. `strength`, float32 (n, S, S), is the root mean square over all of the layer's maps, enlarged.
    """

    number: int
    num_layers: int
    side: int
    strongest: np.ndarray
    strength: np.ndarray


@dataclass(frozen=True)
class ErrorCorrelation:
    """Spearman's rank correlation of a map with the negative error over the squares of each image, float64 (n,).

    It is 1 where the map is highest exactly where the error is lowest. `shuffled` is the control: the correlation with
    the map of another image. Images whose map, borrowed map or error is constant have no ranks and are left out of
    both.
    """

    name: str
    correlations: np.ndarray
    shuffled: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return the means, `agreement/<name>` and `agreement/<name>_shuffled`."""
        return {
            f"agreement/{self.name}": float(np.mean(self.correlations)),
            f"agreement/{self.name}_shuffled": float(np.mean(self.shuffled)),
        }


@dataclass(frozen=True)
class AutoencoderExplanation:
    """Maps of all n test images, and their correlations with low reconstruction error.

    `layers` are the encoder's. `class_maps`, float32 (n, S, S), is the evidence for the class that the classifier
    predicts on the full image, None without a classifier.
    """

    layers: list[EncoderMaps]
    class_maps: np.ndarray | None
    correlations: list[ErrorCorrelation]

    def metrics(self) -> dict[str, float]:
        """Return the metrics of each correlation, and `num_layers`, the number of the encoder's convolutions."""
        num_layers = self.layers[0].num_layers if self.layers else 0
        metrics = {"num_layers": float(num_layers)}
        for correlation in self.correlations:
            metrics |= correlation.metrics()
        return metrics


class Encoder(nn.Module):
    """The encoder of an autoencoder as a network of its own. Takes images (n, 3, S, S) in [0, 1].

    `hidden`, bool (n, 1, S, S), marks the hidden pixels of the next batch.
    """

    def __init__(self, autoencoder: LatentAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.hidden: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images, self.hidden)


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
    """Compute the maps of all test images and correlate them with the reconstruction's `squared_errors` (n, S, S).

    `hidden` (n, S, S) marks the pixels that were hidden from the autoencoder, in patches of `masking`.
    """
    patches = None
    if hidden is not None and masking is not None:
        patches = hidden[:, :: masking.patch_size, :: masking.patch_size]
    layers = encoder_maps(
        autoencoder, images.test, settings.depths, batch_size=batch_size, compute=compute, hidden=hidden
    )
    grad_cam = None
    if classifier is not None:
        grad_cam = predicted_class_maps(classifier, images, batch_size=batch_size, compute=compute)
    maps_by_name = {} if grad_cam is None else {GRAD_CAM: grad_cam}
    maps_by_name |= {f"layer{layer.number}": layer.strength for layer in layers}
    correlations = [
        correlate_with_error(name, maps, squared_errors, patches=patches, seed=settings.seed)
        for name, maps in maps_by_name.items()
    ]
    return AutoencoderExplanation(layers, grad_cam, [one for one in correlations if one is not None])


def predicted_class_maps(
    classifier: nn.Module, images: PackedImages, *, batch_size: int, compute: Compute
) -> np.ndarray:
    """Return the evidence in each test image for the class that `classifier` predicts: float32 (n, S, S) in [0, 1]."""
    classifier = classifier.to(compute.device).eval()
    parts = []
    for start in range(0, len(images.test), batch_size):
        pixels = torch.from_numpy(np.array(images.test.images[start : start + batch_size])).to(compute.device)
        batch = normalise(pixels, mean=images.channel_mean, std=images.channel_std)
        with torch.no_grad():
            predicted = classifier(batch).argmax(dim=1)
        parts.append(class_maps(classifier, batch, predicted).maps)
    return np.concatenate(parts)


def encoder_maps(
    autoencoder: LatentAutoencoder,
    split: ImageSplit,
    depths: Sequence[float],
    *,
    batch_size: int,
    compute: Compute,
    hidden: np.ndarray | None = None,
) -> list[EncoderMaps]:
    """Return the maps of the encoder's convolutions at `depths`, from 0, the first, to 1, the last.

    1x1 convolutions are not counted: the one that maps features to latents only mixes channels. The list is empty for
    an encoder without convolutions. `hidden`, bool (n, S, S), marks pixels that are hidden from the encoder.
    """
    encoder = Encoder(compute.place(autoencoder).eval())
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), compute=compute)
    batch_size = min(batch_size, MAX_BATCH)
    chosen: list[int] = []
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = []
    sides: list[int] = []
    num_layers = 0
    for number, (images, _) in enumerate(ordered_batches(loaded, batch_size=batch_size)):
        if hidden is not None:
            encoder.hidden = torch.from_numpy(hidden[number * batch_size :][: len(images)])[:, None].to(compute.device)
        layers = [one for one in feature_maps(encoder, images) if one.convolution.kernel_size != (1, 1)]
        if not layers:
            return []
        if not parts:
            num_layers = len(layers)
            chosen = sorted({layer_at(depth, num_layers) for depth in depths})
            parts = [[] for _ in chosen]
            sides = [layers[index].maps.shape[-1] for index in chosen]
        for column, index in zip(parts, chosen, strict=True):
            column.append(_summarise_maps(layers[index].maps, size=split.images.shape[1]))
    return [
        EncoderMaps(index + 1, num_layers, side, *(np.concatenate(one) for one in zip(*column, strict=True)))
        for index, side, column in zip(chosen, sides, parts, strict=True)
    ]


def layer_at(depth: float, num_layers: int) -> int:
    """Return the index of the layer nearest to `depth`, 0 to 1; of two equally near, the deeper."""
    return math.floor(depth * (num_layers - 1) + 0.5)


def correlate_with_error(
    name: str, maps: np.ndarray, squared_errors: np.ndarray, *, patches: np.ndarray | None, seed: int
) -> ErrorCorrelation | None:
    """Correlate `maps` with low `squared_errors`, both (n, S, S) and of the same images.

    `patches`, bool (n, P, P), marks the hidden patches, equally many in each image. Only these are compared, as nothing
    else is completed; None compares all squares. `seed` determines whose map each image gets in the control: each map
    is used once, none by its own image. Returns None where fewer than two images have ranks.
    """
    size = grid_size(maps.shape[1]) if patches is None else patches.shape[1]
    heights, errors = grid_means(maps, size), grid_means(squared_errors, size)
    all_squares = np.ones(heights.shape, dtype=bool)
    compared = all_squares if patches is None else patches.reshape(len(patches), -1)
    columns = np.nonzero(compared)[1].reshape(len(heights), -1)
    # One cycle through the images in random order, so that none gets its own map back.
    order = numpy_generator(seed, "agreement").permutation(len(heights))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    own, shuffled, low_error = (np.take_along_axis(one, columns, axis=1) for one in (heights, heights[others], -errors))
    has_ranks = np.all([np.ptp(one, axis=1) > 0 for one in (own, shuffled, low_error)], axis=0)
    if has_ranks.sum() < 2:
        return None
    own, shuffled, low_error = own[has_ranks], shuffled[has_ranks], low_error[has_ranks]
    return ErrorCorrelation(name, rank_correlation(own, low_error), rank_correlation(shuffled, low_error))


def grid_size(image_size: int) -> int:
    """Return the squares per side for images of `image_size` pixels: the largest divisor up to MAX_GRID_SIZE."""
    return next(count for count in range(min(MAX_GRID_SIZE, image_size), 0, -1) if image_size % count == 0)


def grid_means(values: np.ndarray, size: int) -> np.ndarray:
    """Return the means over a grid of `size` squares per side: (n, S, S) to float64 (n, size^2)."""
    step = values.shape[1] // size
    means: np.ndarray = values.reshape(len(values), size, step, size, step).mean(axis=(2, 4), dtype=np.float64)
    return means.reshape(len(values), -1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row of `first` with that of `second`, (n, k) to float64 (n,)."""
    ranks = [rankdata(rows, axis=1) for rows in (first, second)]
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in ranks]
    scale = np.sqrt(np.square(centred[0]).sum(axis=1) * np.square(centred[1]).sum(axis=1))
    correlations: np.ndarray = (centred[0] * centred[1]).sum(axis=1) / scale
    return correlations


def _summarise_maps(maps: Tensor, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `strongest` and `strength` of `EncoderMaps` for one layer's maps of one batch."""
    positive = maps.float().clamp_min(0)
    chosen = positive.std(dim=(2, 3)).argmax(dim=1)
    strongest = positive[torch.arange(len(maps), device=maps.device), chosen]
    strength = maps.float().square().mean(dim=1).sqrt()
    enlarged = [
        F.interpolate(one[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        for one in (strongest, strength)
    ]
    tiny = torch.finfo(torch.float32).tiny
    scaled = enlarged[0] / enlarged[0].amax(dim=(1, 2), keepdim=True).clamp_min(tiny)
    return scaled.cpu().numpy(), enlarged[1].cpu().numpy()
