"""Training of an autoencoder to reconstruct images, or the patches that are hidden from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.training.masks import cut_patches, hidden_pixels, num_hidden_patches, sample_hidden_patches
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import (
    LoadedImages,
    load_images,
    num_training_batches,
    ordered_batches,
    training_batches,
)
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import Autoencoder, Masking, ReconstructionLoss
from seesay.ranks import Ranks
from seesay.seeding import torch_generator
from seesay.training.build import seeded_initialisation
from seesay.training.checkpoint import Checkpoint, describe_architecture
from seesay.training.loop import Log, fit
from seesay.training.steps import Step

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Autoencoders take and return plain [0, 1] images, and normalise inside."""

MIN_MSE = 1e-10
"""Lower bound that caps the PSNR of a perfect image at 100 dB."""

LOG_FLOOR = 1e-5
"""Added to a mean squared error before its logarithm is minimised: about half a grey level, below which further
improvement is worth nothing."""

_PREFIX = "autoencoder."
"""Prefix of the autoencoder's own weights in a `Learner`'s."""

WINDOW = 11
"""Side of SSIM's Gaussian window, in pixels."""

MaskedBatch = tuple[Tensor, Tensor | None, Tensor]
"""Images float32 (n, 3, S, S), with masking their hidden pixels, bool (n, 1, S, S), and labels, int64 (n,)."""


class Learner(nn.Module):
    """An autoencoder and, where the loss has a class in it, a linear layer that reads the class from the latents."""

    def __init__(self, autoencoder: LatentAutoencoder, class_head: nn.Linear | None) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.class_head = class_head

    def forward(self, images: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return reconstructions (n, 3, S, S) and, with a class head, logits (n, num_classes)."""
        latents = self.autoencoder.encode(images, hidden)
        logits = None if self.class_head is None else self.class_head(latents.flatten(1))
        return self.autoencoder.complete(latents, images, hidden), logits


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
    """Train `autoencoder`, in place, on `images.train`.

    Returns the checkpoint of the epoch with the lowest `val/loss`, and the core-seconds of training. Metrics:
    `train/loss` and `val/loss`, as weighted by `settings.loss`; `val/mse` of [0, 1] pixels; `val/psnr`, the mean over
    images of -10 log10(mse) in dB. With masking all are over hidden pixels only. With cross-entropy in the loss also
    `train/top1` and `val/top1`, of the class head. Raises `InputError` for masks that do not fit the images, and
    `TrainingError` as `fit` does.
    """
    augmentation, training, loss, masking = settings.augmentation, settings.training, settings.loss, settings.masking
    assert training is not None, "an autoencoder that is trained has these"
    assert loss is not None, "an autoencoder that is trained has these"
    size, batch_size = images.image_size, training.batch_size
    load = partial(load_images, mean=MEAN, std=STD, compute=compute)
    train, val = load(images.train), load(images.val)
    val_hidden = None
    if masking is not None:
        num_hidden_patches(masking, image_size=size)
        generator = torch_generator(masking.evaluation_seed, "hidden", "val")
        patches = sample_hidden_patches(len(val), masking, image_size=size, generator=generator)
        val_hidden = hidden_pixels(patches.to(compute.device), patch_size=masking.patch_size)

    class_head = None
    if loss.cross_entropy:
        with seeded_initialisation(seed, "class_head"):
            class_head = nn.Linear(autoencoder.latent_size, images.num_classes)

    def batches(epoch: int) -> Iterator[MaskedBatch]:
        generator = torch_generator(seed, "hidden", epoch)
        num_images = min(batch_size, len(train))
        for batch, labels in training_batches(
            train, epoch, batch_size=batch_size, augmentation=augmentation, seed=seed, ranks=compute.ranks
        ):
            hidden = None
            if masking is not None:
                patches = sample_hidden_patches(num_images, masking, image_size=size, generator=generator)
                patches = patches[compute.ranks.part(num_images)]
                hidden = hidden_pixels(patches.to(compute.device), patch_size=masking.patch_size)
            yield batch, hidden, labels

    best = fit(
        Learner(autoencoder, class_head),
        training,
        batches=batches,
        num_batches=num_training_batches(len(train), batch_size=batch_size),
        compute_step=partial(reconstruction_step, loss=loss, masking=masking),
        evaluate=partial(
            _evaluate,
            val=val,
            hidden=val_hidden,
            loss=loss,
            masking=masking,
            batch_size=batch_size,
            ranks=compute.ranks,
        ),
        expected_first_loss=None,  # depends on the images
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
        rate_scales={f"{_PREFIX}{name}": scale for name, scale in (rate_scales or {}).items()},
    )
    weights = {
        name.removeprefix(_PREFIX): tensor for name, tensor in best.state_dict.items() if name.startswith(_PREFIX)
    }
    return autoencoder_checkpoint(images, settings, weights, best.metrics), best.core_seconds


def autoencoder_checkpoint(
    images: PackedImages, settings: Autoencoder, state_dict: dict[str, Tensor], metrics: dict[str, float]
) -> Checkpoint:
    """Return the checkpoint of an autoencoder trained on `images`."""
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


def reconstruction_step(
    learner: nn.Module, batch: MaskedBatch, *, loss: ReconstructionLoss, masking: Masking | None
) -> Step:
    _, losses, is_correct = _apply(learner, batch, loss=loss, masking=masking)
    return Step(losses.mean(), len(losses), {} if is_correct is None else {"top1": is_correct.sum()})


def _apply(
    learner: nn.Module, batch: MaskedBatch, *, loss: ReconstructionLoss, masking: Masking | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return reconstructions, each image's loss and, with a class head, whether its class is right, bool (n,)."""
    images, hidden, labels = batch
    outputs, logits = learner(images, hidden)
    outputs = outputs.float()
    losses = reconstruction_losses(outputs, images, hidden, loss, masking=masking)
    if logits is None:
        return outputs, losses, None
    losses = losses + loss.cross_entropy * F.cross_entropy(logits.float(), labels, reduction="none")
    return outputs, losses, logits.argmax(dim=1) == labels


def reconstruction_losses(
    outputs: Tensor, images: Tensor, hidden: Tensor | None, loss: ReconstructionLoss, *, masking: Masking | None
) -> Tensor:
    """Return the loss of each image without its cross-entropy, (n,); with hidden pixels it is over those only."""
    difference = outputs - images
    squared = masked_mean(difference.square(), hidden)
    total = loss.l2 * squared
    if loss.l1:
        total = total + loss.l1 * masked_mean(difference.abs(), hidden)
    if loss.log_l2:
        total = total + loss.log_l2 * torch.log(squared + LOG_FLOOR)
    if loss.ssim:
        total = total + loss.ssim * (1.0 - _similarities(outputs, images, hidden, masking))
    return total


def _similarities(outputs: Tensor, images: Tensor, hidden: Tensor | None, masking: Masking | None) -> Tensor:
    """Return the SSIM of each image, (n,), or with masking the mean over its hidden patches, each an image."""
    if hidden is None or masking is None:
        return structural_similarity(outputs, images)
    patches = hidden[:, 0, :: masking.patch_size, :: masking.patch_size]
    similarities = structural_similarity(cut_patches(outputs, patches), cut_patches(images, patches))
    return similarities.view(len(images), -1).mean(dim=1)  # every image has the same number of hidden patches


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return each image's mean, (n,), of `values` (n, 3, S, S) where `mask`, bool (n, 1, S, S), or over all pixels."""
    if mask is None:
        return values.mean(dim=(1, 2, 3))
    # Not a product with the mask, as 0 times NaN is NaN.
    sums = torch.where(mask, values, 0.0).sum(dim=(1, 2, 3))
    return sums / (values.shape[1] * mask.sum(dim=(1, 2, 3)))


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the SSIM of each pair of images, (n,). Images are (n, 3, H, W) floats in [0, 1].

    It is at most 1, for equal images. Computed by torchmetrics: the mean over channels and positions of a Gaussian
    window of 11 pixels a side and standard deviation 1.5, with images reflected at their borders and the constants of
    the paper (Wang et al., 2004). Differentiable. Raises `InputError` for images too small to be reflected so far.
    """
    # Imported here because it takes seconds, and training without SSIM in its loss does not need it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    reach = WINDOW // 2
    if min(first.shape[-2:]) <= reach:
        raise InputError(f"SSIM: got images of {tuple(first.shape[-2:])} pixels: expected more than {reach} a side")
    ssim = structural_similarity_index_measure(
        first, second, gaussian_kernel=True, sigma=1.5, kernel_size=WINDOW, data_range=1.0, reduction="none"
    )
    assert isinstance(ssim, Tensor)  # it is a tuple only where the full map is requested
    return ssim


def error_metrics(errors: list[float]) -> dict[str, float]:
    """Return `val/mse` and `val/psnr` for the mean squared error of each val image."""
    psnr = math.fsum(-10.0 * math.log10(max(error, MIN_MSE)) for error in errors) / len(errors)
    return {"val/mse": math.fsum(errors) / len(errors), "val/psnr": psnr}


def _evaluate(
    learner: nn.Module,
    *,
    val: LoadedImages,
    hidden: Tensor | None,
    loss: ReconstructionLoss,
    masking: Masking | None,
    batch_size: int,
    ranks: Ranks,
) -> dict[str, float]:
    losses: list[Tensor] = []
    errors: list[Tensor] = []
    num_correct: list[int] = []
    starts = ranks.turns(range(0, len(val), batch_size))
    batches = ordered_batches(val, batch_size=batch_size, ranks=ranks)
    for start, (images, labels) in zip(starts, batches, strict=True):
        rows = None if hidden is None else hidden[start:][: len(images)]
        outputs, of_images, is_correct = _apply(learner, (images, rows, labels), loss=loss, masking=masking)
        losses.append(of_images.cpu())
        errors.append(masked_mean((outputs - images).square(), rows).cpu())
        if is_correct is not None:
            num_correct.append(int(is_correct.sum()))
    losses, errors, num_correct = ranks.gather(losses), ranks.gather(errors), ranks.gather(num_correct)
    mean_loss = math.fsum(torch.cat(losses).tolist()) / len(val)
    top1 = {"val/top1": sum(num_correct) / len(val)} if num_correct else {}
    return {"val/loss": mean_loss, **error_metrics(torch.cat(errors).tolist()), **top1}
