"""Reconstructions of a split and their errors, inpainting, and interpolations between latents."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.training.fit import MIN_MSE, structural_similarity
from seesay.autoencoding.training.masks import cut_patches, hidden_pixels, sample_hidden_patches
from seesay.compute import Compute
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageSplit, PackedImages
from seesay.params.autoencoding import Masking
from seesay.seeding import torch_generator


@dataclass(frozen=True)
class Reconstructions:
    """Reconstructions of n images in the split's order, and their errors.

    `images` are uint8 (n, S, S, 3). `mse` and `ssim` are of each image, float64 (n,). `squared_errors` are of each
    pixel, means over its channels, float32 (n, S, S). Errors are of [0, 1] pixels, measured before rounding to uint8.
    """

    images: np.ndarray
    mse: np.ndarray
    ssim: np.ndarray
    squared_errors: np.ndarray


def reconstruct(
    autoencoder: LatentAutoencoder,
    split: ImageSplit,
    *,
    batch_size: int,
    compute: Compute,
    hidden: np.ndarray | None = None,
) -> Reconstructions:
    """Reconstruct every image of `split` in float32, hiding the pixels where `hidden`, bool (n, S, S), is true."""
    autoencoder = compute.place(autoencoder).eval()
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), compute=compute)
    masks = None if hidden is None else torch.from_numpy(hidden)[:, None].to(compute.device)
    batches = []
    with torch.inference_mode():
        starts = compute.ranks.turns(range(0, len(split), batch_size))
        ordered = ordered_batches(loaded, batch_size=batch_size, ranks=compute.ranks)
        for start, (images, _) in zip(starts, ordered, strict=True):
            rows = None if masks is None else masks[start:][: len(images)]
            batches.append(_score_batch(autoencoder(images, rows).float(), images))
    return _join(compute.ranks.gather(batches))


def score_reconstructions(reconstructions: np.ndarray, split: ImageSplit, *, batch_size: int) -> Reconstructions:
    """Score reconstructions of `split` that come from elsewhere, uint8 (n, S, S, 3)."""
    batches = []
    for start in range(0, len(split), batch_size):
        rows = slice(start, start + batch_size)
        batches.append(_score_batch(*(_to_floats(pixels[rows]) for pixels in (reconstructions, split.images))))
    return _join(batches)


def evaluation_masks(masking: Masking, split_name: str, num_images: int, *, image_size: int) -> np.ndarray:
    """Return the hidden pixels of the images of `split_name`: bool (num_images, image_size, image_size)."""
    generator = torch_generator(masking.evaluation_seed, "hidden", split_name)
    patches = sample_hidden_patches(num_images, masking, image_size=image_size, generator=generator)
    return hidden_pixels(patches, patch_size=masking.patch_size)[:, 0].numpy()


def masked_mse(squared_errors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return each image's mean squared error, float64 (n,), over the pixels where `mask`, bool (n, S, S), is true."""
    sums: np.ndarray = np.where(mask, squared_errors, 0.0).sum(axis=(1, 2), dtype=np.float64)
    means: np.ndarray = sums / mask.sum(axis=(1, 2))
    return means


def mean_image_mse(images: PackedImages, *, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the error of predicting the mean training image, for each test image, float64 (n,).

    It is over all pixels, or over those where `mask`, bool (n, S, S), is true.
    """
    mean_image = images.train.images.mean(axis=0, dtype=np.float64) / 255.0
    errors = (np.square(image / 255.0 - mean_image).mean(axis=2) for image in images.test.images)
    if mask is None:
        return np.array([error.mean() for error in errors])
    return np.array([error[pixels].mean() for error, pixels in zip(errors, mask, strict=True)])


def psnr_from_mse(mse: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB for mean squared errors of [0, 1] pixels, (n,)."""
    values: np.ndarray = -10.0 * np.log10(np.maximum(mse, MIN_MSE))
    return values


def mean_psnr(mse: np.ndarray) -> float:
    """Return the mean over images of their PSNR in dB, which is not the PSNR of their mean error."""
    return float(np.mean(psnr_from_mse(mse)))


def interpolate(
    autoencoder: LatentAutoencoder, split: ImageSplit, pairs: np.ndarray, *, steps: int, compute: Compute
) -> np.ndarray:
    """Decode evenly spaced latents between the two images of each pair, both ends included.

    `pairs`, int (n, 2), are rows of `split`. Returns uint8 (n, steps, S, S, 3).
    """
    autoencoder = compute.place(autoencoder).eval()
    with torch.inference_mode():
        ends = []
        for column in pairs.T:
            pixels = torch.from_numpy(np.array(split.images[column])).to(compute.device)
            ends.append(autoencoder.encode(pixels.permute(0, 3, 1, 2).float() / 255.0))
        columns = []
        for share in np.linspace(0.0, 1.0, steps):
            images = autoencoder.decode(torch.lerp(ends[0], ends[1], float(share)))
            columns.append(images.float().mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return np.stack(columns, axis=1)


def inpaint(images: np.ndarray, hidden: np.ndarray, *, radius: int) -> np.ndarray:
    """Fill the hidden pixels of `images`, uint8 (n, S, S, 3), from those around them.

    `hidden` is bool (n, S, S). Uses OpenCV's Navier-Stokes inpainting (Bertalmio et al., 2001) with a neighbourhood of
    `radius` pixels. Hidden pixels are set to black first, so that none of their content can be used.
    """
    visible = np.where(hidden[..., None], np.uint8(0), images)
    filled = [
        cv2.inpaint(np.ascontiguousarray(image), mask.astype(np.uint8), radius, cv2.INPAINT_NS)
        for image, mask in zip(visible, hidden, strict=True)
    ]
    return np.stack(filled)


def patch_ssim(reconstructions: np.ndarray, images: np.ndarray, patches: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Return the mean SSIM of each image's selected patches, float64 (n,).

    Each patch is scored as an image of its own, so that nothing around it counts. `reconstructions` and `images` are
    uint8 (n, S, S, 3). `patches`, bool (n, P, P), selects patches of S / P pixels a side, at least one in each image.
    Raises `InputError` for patches of fewer than 6 pixels a side.
    """
    means = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        selected = torch.from_numpy(patches[rows])
        first, second = (cut_patches(_to_floats(pixels[rows]), selected) for pixels in (reconstructions, images))
        values = structural_similarity(first, second).numpy().astype(np.float64)
        counts = patches[rows].sum(axis=(1, 2))
        ends = np.cumsum(counts)
        means.append(np.add.reduceat(values, ends - counts) / counts)
    return np.concatenate(means)


def _score_batch(outputs: Tensor, images: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the uint8 images, SSIM and squared errors of one batch of `outputs`."""
    errors = (outputs - images).square().mean(dim=1)
    pixels = outputs.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels.cpu().numpy(), structural_similarity(outputs, images).cpu().numpy(), errors.cpu().numpy()


def _join(batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Reconstructions:
    images, ssim, errors = (np.concatenate(column) for column in zip(*batches, strict=True))
    return Reconstructions(images, errors.mean(axis=(1, 2), dtype=np.float64), ssim.astype(np.float64), errors)


def _to_floats(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255.0
