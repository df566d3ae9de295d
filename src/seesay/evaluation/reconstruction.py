"""How well an autoencoder draws images again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seesay.compute import Compute
from seesay.data.image_batches import load_images, ordered_batches
from seesay.data.packed_images import ImageSplit, PackedImages

SMALLEST_MSE = 1e-10
"""Caps the PSNR of a perfect image at 100 dB."""


@dataclass(frozen=True)
class Reconstructions:
    """Of n images in the split's order: uint8 (n, S, S, 3) to look at, and each one's mean squared error, float64 (n,).

    Errors are of [0, 1] pixels, measured before rounding to uint8.
    """

    images: np.ndarray
    mse: np.ndarray


def reconstruct(autoencoder: nn.Module, split: ImageSplit, *, batch_size: int, compute: Compute) -> Reconstructions:
    """Every image of `split` drawn again, in float32."""
    autoencoder = compute.place(autoencoder).eval()
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=compute.device)
    drawn, errors = [], []
    with torch.inference_mode():
        for images, _ in ordered_batches(loaded, batch_size=batch_size):
            outputs = autoencoder(images).float()
            errors.append((outputs - images).square().mean(dim=(1, 2, 3)).cpu().numpy().astype(np.float64))
            pixels = outputs.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
            drawn.append(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    return Reconstructions(np.concatenate(drawn), np.concatenate(errors))


def reconstruction_metrics(reconstructions: Reconstructions, images: PackedImages) -> dict[str, float]:
    """`test/mse` (of [0, 1] pixels), `test/psnr` (dB: the mean of each image's -10 log10(mse), not that of the mean
    mse) and `test/mean_image_psnr`, what always drawing the mean training image would get.
    """
    mean_image = images.train.images.mean(axis=0, dtype=np.float64) / 255.0
    errors = [float(np.mean(np.square(image / 255.0 - mean_image))) for image in images.test.images]
    return {
        "test/mse": float(np.mean(reconstructions.mse)),
        "test/psnr": mean_psnr(reconstructions.mse),
        "test/mean_image_psnr": mean_psnr(np.array(errors)),
    }


def mean_psnr(mse: np.ndarray) -> float:
    """The mean peak signal-to-noise ratio in dB of images with these mean squared errors of [0, 1] pixels."""
    return float(np.mean(-10.0 * np.log10(np.maximum(mse, SMALLEST_MSE))))
