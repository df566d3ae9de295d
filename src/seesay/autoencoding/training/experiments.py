"""Autoencoder experiments: what they start from, hidden patches, and the fit of principal components."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor

from seesay.autoencoding.networks.backbone import BackboneAutoencoder
from seesay.autoencoding.networks.base import LatentAutoencoder, PcaAutoencoder
from seesay.autoencoding.networks.registry import build_autoencoder, load_backbone
from seesay.autoencoding.training.fit import MEAN, STD, autoencoder_checkpoint, error_metrics, fit_autoencoder
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import Autoencoder, Masking
from seesay.seeding import derive_seed
from seesay.training.checkpoint import Checkpoint, load_checkpoint
from seesay.training.loop import Log


def num_hidden_patches(masking: Masking, *, image_size: int) -> int:
    """Return the number of hidden patches per image, the same for every image.

    Raises `InputError` if the patches do not tile the image, or if none or all of them would be hidden.
    """
    if image_size % masking.patch_size:
        raise InputError(
            f"masking.patch_size: got {masking.patch_size}: expected a divisor of the image size, {image_size}"
        )
    num_patches = (image_size // masking.patch_size) ** 2
    count = round(masking.share * num_patches)
    if not 0 < count < num_patches:
        raise InputError(
            f"masking.share: got {masking.share}, which hides {count} of {num_patches} patches: "
            f"expected 1 to {num_patches - 1}"
        )
    return count


def sample_hidden_patches(num_images: int, masking: Masking, *, image_size: int, generator: torch.Generator) -> Tensor:
    """Sample masks, bool (num_images, P, P) with P patches a side, true where hidden, on the CPU.

    Every image has the same number of hidden patches. Raises `InputError` as `num_hidden_patches` does.
    """
    count = num_hidden_patches(masking, image_size=image_size)
    side = image_size // masking.patch_size
    order = torch.rand(num_images, side * side, generator=generator).argsort(dim=1)
    return (order < count).view(num_images, side, side)


def cut_patches(images: Tensor, patches: Tensor) -> Tensor:
    """Cut the selected patches from images (n, C, S, S), image by image: (m, C, S / P, S / P).

    `patches`, bool (n, P, P), selects m patches.
    """
    count, channels, size, _ = images.shape
    per_side = patches.shape[1]
    side = size // per_side
    squares = images.reshape(count, channels, per_side, side, per_side, side).permute(0, 2, 4, 1, 3, 5)
    return squares[patches]


def hidden_pixels(patches: Tensor, *, patch_size: int) -> Tensor:
    """Enlarge masks of patches, bool (n, P, P), to masks of pixels, bool (n, 1, S, S), with S = P * patch_size."""
    return F.interpolate(patches[:, None].float(), scale_factor=patch_size, mode="nearest").bool()


_BATCH_SIZE = 256


def fit_principal_components(
    autoencoder: PcaAutoencoder, images: PackedImages, *, seed: int, compute: Compute
) -> tuple[dict[str, float], float]:
    """Fit mean and components of `autoencoder`, in place, to `images.train`.

    Returns the metrics `val/loss`, `val/mse` and `val/psnr`, and the core-seconds it took. scikit-learn computes the
    components by a randomised singular value decomposition (Halko et al., 2011), seeded by `seed`, in float32 on the
    CPU: an exact one of 12,288 values per image takes many minutes. Raises `InputError` where there are fewer images
    than components.
    """
    started, count = time.process_time(), len(images.train)
    if count < autoencoder.latent_size:
        raise InputError(
            f"num_components: got {autoencoder.latent_size}: expected at most {count}, the number of training images"
        )
    pixels = np.asarray(images.train.images).transpose(0, 3, 1, 2).reshape(count, -1).astype(np.float32)
    pixels /= 255.0
    pca = PCA(
        autoencoder.latent_size, svd_solver="randomized", random_state=derive_seed(seed, "components") % 2**32
    ).fit(pixels)
    autoencoder.center.copy_(torch.from_numpy(pca.mean_))
    autoencoder.components.copy_(torch.from_numpy(pca.components_))
    val = load_images(images.val, mean=MEAN, std=STD, device=compute.device)
    compute.place(autoencoder).eval()
    with torch.no_grad():
        errors = [
            (autoencoder(batch) - batch).square().mean(dim=(1, 2, 3))
            for batch, _ in ordered_batches(val, batch_size=_BATCH_SIZE)
        ]
    metrics = error_metrics(torch.cat(errors).tolist())
    return {"val/loss": metrics["val/mse"], **metrics}, time.process_time() - started


@dataclass(frozen=True)
class TrainedAutoencoder:
    """The checkpoint of a trained autoencoder, and the core-seconds of its training."""

    checkpoint: Checkpoint
    core_seconds: float


def train_autoencoder(
    cell: str,
    settings: Autoencoder,
    images: PackedImages,
    paths: Paths,
    *,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> TrainedAutoencoder:
    """Build and train the experiment's autoencoder.

    Raises `InputError` where the classifier it starts from is missing, of another architecture or trained on other
    images, and `TrainingError` as `fit` does.
    """
    autoencoder = start_autoencoder(cell, settings, images, paths, seed=seed)
    if isinstance(autoencoder, PcaAutoencoder):
        metrics, seconds = fit_principal_components(autoencoder, images, seed=seed, compute=compute)
        log(metrics, step=0)
        metrics |= {"best_epoch": 0.0, "num_epochs": 0.0}
        return TrainedAutoencoder(autoencoder_checkpoint(images, settings, autoencoder.state_dict(), metrics), seconds)
    rate_scales = None
    if settings.backbone_rate is not None:
        assert isinstance(autoencoder, BackboneAutoencoder), "checked with the settings"
        rate_scales = autoencoder.rate_scales(settings.backbone_rate)
    checkpoint, seconds = fit_autoencoder(
        autoencoder, images, settings, rate_scales=rate_scales, seed=seed, compute=compute, log=log, resume=resume
    )
    return TrainedAutoencoder(checkpoint, seconds)


def start_autoencoder(
    cell: str, settings: Autoencoder, images: PackedImages, paths: Paths, *, seed: int
) -> LatentAutoencoder:
    """Build the autoencoder before training, on the backbone of a trained classifier where it starts from one."""
    key = f"autoencoders.{cell}"
    autoencoder = build_autoencoder(
        settings.architecture, image_size=images.image_size, seed=seed, key=f"{key}.architecture"
    )
    autoencoder.set_normalisation(images.channel_mean, images.channel_std)
    if settings.parent is not None:
        classifier = load_checkpoint(paths.classifier(settings.parent), kind="classifier")
        if classifier.dataset_digest != images.digest:
            raise InputError(
                f"{key}.start: got {settings.start}: its checkpoint was trained on {classifier.dataset} "
                f"({classifier.dataset_digest[:12]}...), not on the current {settings.dataset} "
                f"({images.digest[:12]}...)"
            )
        try:
            load_backbone(autoencoder, settings.architecture, classifier, name=settings.parent)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
    return autoencoder
