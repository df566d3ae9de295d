"""How the linear autoencoder is computed: the principal components of the training images."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from sklearn.decomposition import PCA

from seesay.autoencoding.networks.pca import PcaAutoencoder
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import PackedImages
from seesay.seeding import derive_seed

_BATCH_SIZE = 256


def fit_principal_components(
    autoencoder: PcaAutoencoder, images: PackedImages, *, seed: int, compute: Compute
) -> tuple[dict[str, float], float]:
    """Puts mean and components of `images.train` into `autoencoder`; `val/loss`, `val/mse`, `val/psnr`, core-seconds.

    scikit-learn computes them by a randomised singular value decomposition (Halko et al., 2011), drawn by `seed`, in
    float32 on the CPU: an exact one of 12,288 values an image takes many minutes. Raises `InputError` for fewer images
    than components.
    """
    started, count = time.process_time(), len(images.train)
    if count < autoencoder.latent_size:
        raise InputError(
            f"num_components: got {autoencoder.latent_size}: expected at most {count}, the training images"
        )
    pixels = np.asarray(images.train.images).transpose(0, 3, 1, 2).reshape(count, -1).astype(np.float32)
    pixels /= 255.0
    found = PCA(
        autoencoder.latent_size, svd_solver="randomized", random_state=derive_seed(seed, "components") % 2**32
    ).fit(pixels)
    autoencoder.center.copy_(torch.from_numpy(found.mean_))
    autoencoder.components.copy_(torch.from_numpy(found.components_))
    val = load_images(images.val, mean=(0.0,) * 3, std=(1.0,) * 3, device=compute.device)
    compute.place(autoencoder).eval()
    with torch.no_grad():
        errors = [
            (autoencoder(batch) - batch).square().mean(dim=(1, 2, 3))
            for batch, _ in ordered_batches(val, batch_size=_BATCH_SIZE)
        ]
    values = torch.cat(errors).tolist()
    mse = math.fsum(values) / len(values)
    psnr = math.fsum(-10.0 * math.log10(max(value, 1e-10)) for value in values) / len(values)
    return {"val/loss": mse, "val/mse": mse, "val/psnr": psnr}, time.process_time() - started
