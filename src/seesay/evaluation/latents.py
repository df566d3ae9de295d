"""What an autoencoder's encoder makes of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from seesay.compute import Compute
from seesay.data.image_batches import load_images, ordered_batches
from seesay.data.packed_images import ImageSplit, PackedImages
from seesay.models.latent_autoencoder import LatentAutoencoder


@dataclass(frozen=True)
class Latents:
    """float32 (n, latent_size) of each split, standardised: zero mean and unit deviation over train."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def standardised_latents(
    autoencoder: LatentAutoencoder, images: PackedImages, *, batch_size: int, compute: Compute
) -> Latents:
    """Of every image, nothing hidden."""
    train, val, test = (
        encode(autoencoder, split, batch_size=batch_size, compute=compute)
        for split in (images.train, images.val, images.test)
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0.0] = 1.0  # a number that never changes says nothing
    return Latents(*((one - mean) / deviation for one in (train, val, test)))


def encode(autoencoder: LatentAutoencoder, split: ImageSplit, *, batch_size: int, compute: Compute) -> np.ndarray:
    """float32 (n, latent_size), in the split's order."""
    autoencoder = compute.place(autoencoder).eval()
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=compute.device)
    batches = ordered_batches(loaded, batch_size=batch_size)
    with torch.inference_mode():
        parts = [autoencoder.encode(images).flatten(1).float().cpu() for images, _ in batches]
    return torch.cat(parts).numpy()
