"""How well an autoencoder draws images again, and what was hidden from it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.training.fit import WINDOW, structural_similarity
from seesay.autoencoding.training.masks import draw_hidden, hidden_pixels
from seesay.compute import Compute
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageSplit, PackedImages
from seesay.params.autoencoding import Masking
from seesay.seeding import torch_generator

SMALLEST_MSE = 1e-10
"""Caps the PSNR of a perfect image at 100 dB."""


@dataclass(frozen=True)
class Reconstructions:
    """Of n images in the split's order: uint8 (n, S, S, 3) to look at, each one's mean squared error and SSIM, float64
    (n,), and the squared error of each pixel, the mean of its channels, float32 (n, S, S).

    Errors are of [0, 1] pixels, measured before rounding to uint8.
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
    """Every image of `split` drawn again, in float32; pixels where `hidden`, bool (n, S, S), are not shown."""
    autoencoder = compute.place(autoencoder).eval()
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=compute.device)
    masks = None if hidden is None else torch.from_numpy(hidden)[:, None].to(compute.device)
    parts = []
    with torch.inference_mode():
        for number, (images, _) in enumerate(ordered_batches(loaded, batch_size=batch_size)):
            rows = None if masks is None else masks[number * batch_size :][: len(images)]
            parts.append(_compared(autoencoder(images, rows).float(), images))
    drawn, ssim, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Reconstructions(drawn, errors.mean(axis=(1, 2), dtype=np.float64), ssim.astype(np.float64), errors)


def compare_drawn(drawn: np.ndarray, split: ImageSplit, *, batch_size: int) -> Reconstructions:
    """The same of images that something else has drawn, uint8 (n, S, S, 3)."""
    parts = []
    for start in range(0, len(split), batch_size):
        chosen = slice(start, start + batch_size)
        parts.append(_compared(*(_as_floats(one[chosen]) for one in (drawn, split.images))))
    shown, ssim, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Reconstructions(shown, errors.mean(axis=(1, 2), dtype=np.float64), ssim.astype(np.float64), errors)


def _compared(drawn: Tensor, images: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, SSIM and squared errors of one batch."""
    errors = (drawn - images).square().mean(dim=1)
    pixels = drawn.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels.cpu().numpy(), structural_similarity(drawn, images).cpu().numpy(), errors.cpu().numpy()


def _as_floats(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255.0


def evaluation_masks(masking: Masking, split_name: str, num_images: int, *, image_size: int) -> np.ndarray:
    """bool (num_images, image_size, image_size): which pixels of the images of `split_name` are hidden."""
    generator = torch_generator(masking.evaluation_seed, "hidden", split_name)
    patches = draw_hidden(num_images, masking, image_size=image_size, generator=generator)
    return hidden_pixels(patches, patch_size=masking.patch_size)[:, 0].numpy()


def mse_where(squared_errors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Each image's mean squared error, float64 (n,), over the pixels `chosen`, bool (n, S, S)."""
    sums: np.ndarray = np.where(chosen, squared_errors, 0.0).sum(axis=(1, 2), dtype=np.float64)
    means: np.ndarray = sums / chosen.sum(axis=(1, 2))
    return means


def mean_image_mse(images: PackedImages, *, chosen: np.ndarray | None = None) -> np.ndarray:
    """What always drawing the mean training image would get on each test image, float64 (n,), over all pixels or over
    those `chosen`, bool (n, S, S)."""
    mean_image = images.train.images.mean(axis=0, dtype=np.float64) / 255.0
    errors = (np.square(image / 255.0 - mean_image).mean(axis=2) for image in images.test.images)
    if chosen is None:
        return np.array([error.mean() for error in errors])
    return np.array([error[pixels].mean() for error, pixels in zip(errors, chosen, strict=True)])


def psnr_of(mse: np.ndarray) -> np.ndarray:
    """The peak signal-to-noise ratio in dB of images with these mean squared errors of [0, 1] pixels, (n,)."""
    values: np.ndarray = -10.0 * np.log10(np.maximum(mse, SMALLEST_MSE))
    return values


def mean_psnr(mse: np.ndarray) -> float:
    """The mean over images of their PSNR in dB, which is not the PSNR of their mean error."""
    return float(np.mean(psnr_of(mse)))


def interpolate(
    autoencoder: LatentAutoencoder, split: ImageSplit, pairs: np.ndarray, *, steps: int, compute: Compute
) -> np.ndarray:
    """uint8 (n, steps, S, S, 3): from each pair's first image of `split`, drawn again, to its second, evenly.

    `pairs` is int (n, 2).
    """
    autoencoder = compute.place(autoencoder).eval()
    with torch.inference_mode():
        ends = []
        for column in pairs.T:
            pixels = torch.from_numpy(np.array(split.images[column])).to(compute.device)
            ends.append(autoencoder.encode(pixels.permute(0, 3, 1, 2).float() / 255.0))
        rows = []
        for share in np.linspace(0.0, 1.0, steps):
            drawn = autoencoder.decode(torch.lerp(ends[0], ends[1], float(share)))
            rows.append(drawn.float().mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return np.stack(rows, axis=1)


def inpaint(images: np.ndarray, hidden: np.ndarray, *, radius: int) -> np.ndarray:
    """`images`, uint8 (n, S, S, 3), with the pixels where `hidden`, bool (n, S, S), filled from what is around them.

    OpenCV's Navier-Stokes inpainting (Bertalmio et al., 2001) with a neighbourhood of `radius` pixels. Hidden pixels
    are blackened first, so that nothing of them can count.
    """
    shown = np.where(hidden[..., None], np.uint8(0), images)
    filled = [
        cv2.inpaint(np.ascontiguousarray(image), mask.astype(np.uint8), radius, cv2.INPAINT_NS)
        for image, mask in zip(shown, hidden, strict=True)
    ]
    return np.stack(filled)


SMALLEST_PATCH = WINDOW // 2 + 1
"""Pixels a side below which a patch cannot be reflected as far as SSIM's window reaches."""


def patch_similarity(drawn: np.ndarray, images: np.ndarray, patches: np.ndarray, *, batch_size: int) -> np.ndarray:
    """The mean SSIM of each image's patches that are chosen, float64 (n,), each patch taken as an image of its own, so
    that nothing around it counts.

    `drawn` and `images` are uint8 (n, S, S, 3); `patches`, bool (n, P, P), are chosen in each image, S / P pixels a
    side. Raises `InputError` for patches of fewer than 6 pixels a side.
    """
    means = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        chosen = patches[rows]
        first, second = (_cut(one[rows], chosen) for one in (drawn, images))
        values = structural_similarity(first, second).numpy().astype(np.float64)
        counts = chosen.sum(axis=(1, 2))
        ends = np.cumsum(counts)
        means.append(np.add.reduceat(values, ends - counts) / counts)
    return np.concatenate(means)


def _cut(pixels: np.ndarray, patches: np.ndarray) -> torch.Tensor:
    """The chosen patches of uint8 (n, S, S, 3), image by image: floats (m, 3, side, side) in [0, 1]."""
    count, per_side = len(pixels), patches.shape[1]
    side = pixels.shape[1] // per_side
    squares = np.asarray(pixels).reshape(count, per_side, side, per_side, side, 3).transpose(0, 1, 3, 5, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(squares[patches])).float() / 255.0
