"""How an autoencoder learns: images drawn again, or the patches that were hidden from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.training.masks import draw_hidden, hidden_pixels, num_hidden
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import (
    DeviceImages,
    load_images,
    num_training_batches,
    ordered_batches,
    training_batches,
)
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import Autoencoder, ReconstructionLoss
from seesay.seeding import torch_generator
from seesay.training.checkpoint import Checkpoint, describe_architecture
from seesay.training.loop import Log, Step, fit

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Autoencoders see and draw plain [0, 1] images, and normalise within."""

SMALLEST_MSE = 1e-10
"""Caps the PSNR of a perfect image at 100 dB."""

LOG_FLOOR = 1e-5
"""Added to a mean squared error before its logarithm is minimised: half a grey level, below which nothing is gained."""

MaskedBatch = tuple[Tensor, Tensor | None]
"""Images float32 (n, 3, S, S) and, where some of their pixels are hidden, which: bool (n, 1, S, S)."""


def fit_autoencoder(
    autoencoder: LatentAutoencoder,
    images: PackedImages,
    settings: Autoencoder,
    *,
    rate_scales: dict[str, float] | None,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> tuple[Checkpoint, float]:
    """Trains `autoencoder` (changed in place) on `images.train`; the epoch with the lowest `val/loss`, core-seconds.

    Metrics: `train/loss` and `val/loss` (as `settings.loss` weighs it), `val/mse` of [0, 1] pixels, and `val/psnr`, the
    mean over images of -10 log10(mse) in dB; with masking all of hidden pixels alone. Raises `InputError` for masks
    that do not fit the images, and `TrainingError` as `fit` does.
    """
    augmentation, training, loss, masking = settings.augmentation, settings.training, settings.loss, settings.masking
    assert training is not None, "an autoencoder that is trained has these"
    assert loss is not None, "an autoencoder that is trained has these"
    size, batch_size = images.image_size, training.batch_size
    load = partial(load_images, mean=MEAN, std=STD, device=compute.device)
    train, val = load(images.train), load(images.val)
    val_hidden = None
    if masking is not None:
        num_hidden(masking, image_size=size)
        generator = torch_generator(masking.evaluation_seed, "hidden", "val")
        patches = draw_hidden(len(val), masking, image_size=size, generator=generator)
        val_hidden = hidden_pixels(patches.to(compute.device), patch_size=masking.patch_size)

    def batches(epoch: int) -> Iterator[MaskedBatch]:
        generator = torch_generator(seed, "hidden", epoch)
        for batch, _ in training_batches(train, epoch, batch_size=batch_size, augmentation=augmentation, seed=seed):
            hidden = None
            if masking is not None:
                patches = draw_hidden(len(batch), masking, image_size=size, generator=generator)
                hidden = hidden_pixels(patches.to(compute.device), patch_size=masking.patch_size)
            yield batch, hidden

    best = fit(
        autoencoder,
        training,
        batches=batches,
        num_batches=num_training_batches(len(train), batch_size=batch_size),
        compute_step=partial(reconstruction_step, loss=loss),
        evaluate=partial(_evaluate, val=val, hidden=val_hidden, loss=loss, batch_size=batch_size),
        expected_first_loss=None,  # depends on the images
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
        rate_scales=rate_scales,
    )
    return autoencoder_checkpoint(images, settings, best.state_dict, best.metrics), best.core_seconds


def autoencoder_checkpoint(
    images: PackedImages, settings: Autoencoder, state_dict: dict[str, Tensor], metrics: dict[str, float]
) -> Checkpoint:
    """What is kept of an autoencoder of `images`."""
    return Checkpoint(
        kind="autoencoder",
        dataset=settings.dataset,
        dataset_digest=images.digest,
        classes=(),
        vocabulary_digest="",
        architecture=describe_architecture(settings.architecture),
        sizes={"image_size": images.image_size},
        settings=settings.model_dump(mode="json"),
        normalisation={"mean": list(MEAN), "std": list(STD)},
        state_dict=state_dict,
        metrics=metrics,
    )


def reconstruction_step(autoencoder: LatentAutoencoder, batch: MaskedBatch, *, loss: ReconstructionLoss) -> Step:
    images, hidden = batch
    drawn = autoencoder(images, hidden).float()
    return Step(reconstruction_losses(drawn, images, hidden, loss).mean(), len(images), {})


def reconstruction_losses(drawn: Tensor, images: Tensor, hidden: Tensor | None, loss: ReconstructionLoss) -> Tensor:
    """What is minimised, of each image, (n,); of hidden pixels alone where there are any."""
    difference = drawn - images
    squared = mean_where(difference.square(), hidden)
    total = loss.l2 * squared
    if loss.l1:
        total = total + loss.l1 * mean_where(difference.abs(), hidden)
    if loss.log_l2:
        total = total + loss.log_l2 * torch.log(squared + LOG_FLOOR)
    if loss.ssim:
        total = total + loss.ssim * (1.0 - structural_similarity(drawn, images))
    return total


def mean_where(values: Tensor, chosen: Tensor | None) -> Tensor:
    """Each image's mean, (n,), of `values` (n, 3, S, S) over the pixels `chosen`, bool (n, 1, S, S), or over all."""
    if chosen is None:
        return values.mean(dim=(1, 2, 3))
    # Not a product with the mask: 0 times a NaN would be one.
    kept = torch.where(chosen, values, 0.0).sum(dim=(1, 2, 3))
    return kept / (values.shape[1] * chosen.sum(dim=(1, 2, 3)))


def _evaluate(
    autoencoder: LatentAutoencoder,
    *,
    val: DeviceImages,
    hidden: Tensor | None,
    loss: ReconstructionLoss,
    batch_size: int,
) -> dict[str, float]:
    losses: list[Tensor] = []
    errors: list[Tensor] = []
    for number, (images, _) in enumerate(ordered_batches(val, batch_size=batch_size)):
        rows = None if hidden is None else hidden[number * batch_size :][: len(images)]
        drawn = autoencoder(images, rows)
        losses.append(reconstruction_losses(drawn, images, rows, loss))
        errors.append(mean_where((drawn - images).square(), rows))
    mean_loss = math.fsum(torch.cat(losses).tolist()) / len(val)
    values = torch.cat(errors).tolist()
    psnr = math.fsum(-10.0 * math.log10(max(value, SMALLEST_MSE)) for value in values) / len(values)
    return {"val/loss": mean_loss, "val/mse": math.fsum(values) / len(values), "val/psnr": psnr}


WINDOW = 11


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of each pair of images, (n,), at most 1, which equal images have; (n, 3, H, W) floats in [0, 1].

    torchmetrics': the mean over channels and over all places of a Gaussian window of 11 pixels a side and a deviation
    of 1.5, the image reflected at its border, with the constants of the paper (Wang et al., 2004). Gradients go through
    it. Raises `InputError` for images too small to be reflected so far.
    """
    # It takes seconds to import, which training without SSIM in its loss need not wait for.
    from torchmetrics.functional.image import structural_similarity_index_measure

    reach = WINDOW // 2
    if min(first.shape[-2:]) <= reach:
        raise InputError(f"SSIM: got images of {tuple(first.shape[-2:])} pixels: expected more than {reach} a side")
    found = structural_similarity_index_measure(
        first, second, gaussian_kernel=True, sigma=1.5, kernel_size=WINDOW, data_range=1.0, reduction="none"
    )
    assert isinstance(found, Tensor)  # a pair of them only where the whole map is asked for too
    return found
