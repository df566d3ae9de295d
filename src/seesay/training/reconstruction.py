"""How an autoencoder learns: mean squared error between images and their reconstructions."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.compute import Compute
from seesay.data.image_batches import (
    Batch,
    DeviceImages,
    load_images,
    num_training_batches,
    ordered_batches,
    training_batches,
)
from seesay.data.packed_images import PackedImages
from seesay.models.checkpoint import Checkpoint, describe_architecture
from seesay.params.experiments import Autoencoder
from seesay.training.loop import Log, Step, fit

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Autoencoders see and draw plain [0, 1] images."""

SMALLEST_MSE = 1e-10
"""Caps the PSNR of a perfect image at 100 dB."""


def fit_autoencoder(
    autoencoder: nn.Module,
    images: PackedImages,
    settings: Autoencoder,
    *,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> Checkpoint:
    """Trains `autoencoder` (changed in place) on `images.train`; returns the epoch with the lowest `val/loss`.

    Metrics: `train/loss` (the mean squared error of [0, 1] pixels, while learning), `val/loss`, the same number as
    `val/mse`, and `val/psnr`, the mean over images of -10 log10(mse) in dB. Raises `TrainingError` as `fit` does.
    """
    load = partial(load_images, mean=MEAN, std=STD, device=compute.device)
    train, val = load(images.train), load(images.val)
    batch_size = settings.training.batch_size
    best = fit(
        autoencoder,
        settings.training,
        batches=lambda epoch: training_batches(
            train, epoch, batch_size=batch_size, augmentation=settings.augmentation, seed=seed
        ),
        num_batches=num_training_batches(len(train), batch_size=batch_size),
        compute_step=_step,
        evaluate=partial(_evaluate, val=val, batch_size=batch_size),
        expected_first_loss=None,  # depends on the images
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
    )
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
        state_dict=best.state_dict,
        metrics=best.metrics,
    )


def _step(autoencoder: nn.Module, batch: Batch) -> Step:
    images, _ = batch
    return Step(F.mse_loss(autoencoder(images).float(), images), len(images), {})


def _evaluate(autoencoder: nn.Module, *, val: DeviceImages, batch_size: int) -> dict[str, float]:
    errors: list[Tensor] = []
    for images, _ in ordered_batches(val, batch_size=batch_size):
        errors.append((autoencoder(images) - images).square().mean(dim=(1, 2, 3)))
    values = torch.cat(errors).tolist()
    mse = math.fsum(values) / len(values)
    psnr = math.fsum(-10.0 * math.log10(max(value, SMALLEST_MSE)) for value in values) / len(values)
    return {"val/loss": mse, "val/mse": mse, "val/psnr": psnr}
