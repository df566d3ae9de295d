"""Autoencoder experiments: what they start from, and the fit of principal components."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from seesay.arrays import one_blas_thread
from seesay.autoencoding.networks.backbone import BackboneAutoencoder
from seesay.autoencoding.networks.base import LatentAutoencoder, PcaAutoencoder
from seesay.autoencoding.networks.registry import build_autoencoder, load_backbone
from seesay.autoencoding.training.fit import MEAN, STD, autoencoder_checkpoint, error_metrics, fit_autoencoder
from seesay.classification.networks.resnets import fit_whitening
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import Autoencoder
from seesay.seeding import derive_seed
from seesay.training.checkpoint import Checkpoint, load_checkpoint
from seesay.training.loop import Log

_BATCH_SIZE = 256


@one_blas_thread()
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
    val = load_images(images.val, mean=MEAN, std=STD, compute=compute)
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
    if settings.parent is None:
        fit_whitening(autoencoder, images)
    else:
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
