"""What an autoencoder's encoder makes of images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.compute import Compute
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageSplit, PackedImages


@dataclass(frozen=True)
class Latents:
    """float32 (n, latent_size) of each split, standardised: zero mean and unit deviation over train."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def standardised_latents(
    autoencoder: LatentAutoencoder, images: PackedImages, *, batch_size: int, compute: Compute
) -> Latents:
    """Of every image, nothing hidden."""
    train, val, test = (
        encode(autoencoder, split, batch_size=batch_size, compute=compute)
        for split in (images.train, images.val, images.test)
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0.0] = 1.0  # a number that never changes says nothing
    return Latents(*((one - mean) / deviation for one in (train, val, test)))


def encode(autoencoder: LatentAutoencoder, split: ImageSplit, *, batch_size: int, compute: Compute) -> np.ndarray:
    """float32 (n, latent_size), in the split's order."""
    autoencoder = compute.place(autoencoder).eval()
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=compute.device)
    batches = ordered_batches(loaded, batch_size=batch_size)
    with torch.inference_mode():
        parts = [autoencoder.encode(images).flatten(1).float().cpu() for images, _ in batches]
    return torch.cat(parts).numpy()


INVERSE_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)
"""scikit-learn's C: from a strongly held down probe of 1,024 numbers to one that learns its images by heart."""

_MAX_STEPS = 200


@dataclass(frozen=True)
class Probe:
    """`is_right`: bool of each test image. `inverse_strength` is the one of `INVERSE_STRENGTHS` best on val."""

    is_right: np.ndarray
    val_top1: float
    inverse_strength: float

    @property
    def top1(self) -> float:
        return float(np.mean(self.is_right))


def linear_probe(latents: Latents, *, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Probe:
    """A logistic regression fitted on train, its regularisation chosen on val, measured on test.

    `train`, `val`, `test` are labels (n,). Of equal accuracies on val the stronger regularisation wins.
    """
    best: tuple[float, float, LogisticRegression] | None = None
    for strength in INVERSE_STRENGTHS:
        probe = LogisticRegression(C=strength, max_iter=_MAX_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is regularisation too
            probe.fit(latents.train, train)
        found = float(np.mean(probe.predict(latents.val) == val))
        if best is None or found > best[0]:
            best = (found, strength, probe)
    assert best is not None
    return Probe(best[2].predict(latents.test) == test, best[0], best[1])


_ROWS = 500  # test images compared at a time, so that no array of all pairs is made


def nearest_neighbours(of: np.ndarray, among: np.ndarray, *, count: int) -> np.ndarray:
    """For each row of `of` (n, D) the `count` rows of `among` (m, D) with the highest cosine, highest first: int64."""
    first, second = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (of, among))
    found = []
    for start in range(0, len(first), _ROWS):
        cosines = first[start : start + _ROWS] @ second.T
        found.append(np.argsort(-cosines, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def share_of_same_class(neighbours: np.ndarray, *, labels: np.ndarray, of_train: np.ndarray) -> np.ndarray:
    """For each test image the share of its neighbours that have its label, float64 (n,)."""
    same: np.ndarray = of_train[neighbours] == labels[:, None]
    shares: np.ndarray = same.mean(axis=1)
    return shares
