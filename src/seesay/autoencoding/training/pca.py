"""Fitting of the linear autoencoder: the principal components of the training images."""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.decomposition import PCA

from seesay.autoencoding.networks.pca import PcaAutoencoder
from seesay.autoencoding.training.fit import MEAN, STD, error_metrics
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import PackedImages
from seesay.seeding import derive_seed

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
