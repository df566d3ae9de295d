"""What an autoencoder draws on the way from one image's latents to another's."""

from __future__ import annotations

import numpy as np
import torch

from seesay.compute import Compute
from seesay.data.packed_images import ImageSplit
from seesay.models.latent_autoencoder import LatentAutoencoder


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
