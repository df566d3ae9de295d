"""Everything that is shown of what an autoencoder looks at beside what it draws, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seesay.compute import Compute
from seesay.data.augmentation import normalise
from seesay.data.packed_images import PackedImages
from seesay.explain.agreement import Agreement, agreement
from seesay.explain.class_maps import class_maps
from seesay.explain.encoder_maps import EncoderMaps, encoder_maps
from seesay.models.latent_autoencoder import LatentAutoencoder
from seesay.params.autoencoding import Masking
from seesay.params.explaining import EncoderMaps as EncoderMapsSettings

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
