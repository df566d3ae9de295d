"""Latents of images, and how much they tell of classes: a linear probe and nearest neighbours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from seesay.arrays import one_blas_thread
from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.compute import Compute
from seesay.images.batches import load_images, ordered_batches
from seesay.images.packed import ImageSplit, PackedImages

INVERSE_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)
"""Candidates for scikit-learn's C: from a strongly regularised probe of 1,024 numbers to one that overfits train."""

_MAX_ITERATIONS = 200
_NUM_QUERIES = 500  # test images compared at a time, which avoids an array of all pairs


@dataclass(frozen=True)
class Latents:
    """Latents of each split, float32 (n, latent_size), standardised to zero mean and unit deviation over train."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Probe:
    """The result of a linear probe.

    `is_correct` is bool (n,) over the test images. `inverse_strength` is the one of `INVERSE_STRENGTHS` that is best on
    val, where its accuracy is `val_top1`.
    """

    is_correct: np.ndarray
    val_top1: float
    inverse_strength: float


def standardised_latents(
    autoencoder: LatentAutoencoder, images: PackedImages, *, batch_size: int, compute: Compute
) -> Latents:
    """Encode every image, with nothing hidden, and standardise the latents."""
    train, val, test = (
        encode(autoencoder, split, batch_size=batch_size, compute=compute)
        for split in (images.train, images.val, images.test)
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0.0] = 1.0  # a constant latent stays 0
    return Latents(*((one - mean) / deviation for one in (train, val, test)))


def encode(autoencoder: LatentAutoencoder, split: ImageSplit, *, batch_size: int, compute: Compute) -> np.ndarray:
    """Return the latents of `split`, float32 (n, latent_size), in its order."""
    autoencoder = compute.place(autoencoder).eval()
    loaded = load_images(split, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), compute=compute)
    batches = ordered_batches(loaded, batch_size=batch_size, ranks=compute.ranks)
    with torch.inference_mode():
        parts = [autoencoder.encode(images).flatten(1).float().cpu() for images, _ in batches]
    return torch.cat(compute.ranks.gather(parts)).numpy()


@one_blas_thread()
def linear_probe(latents: Latents, *, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Probe:
    """Fit a logistic regression on train, choose its regularisation on val and evaluate it on test.

    `train`, `val` and `test` are labels (n,). Of equal accuracies on val the stronger regularisation wins.
    """
    best: tuple[float, float, LogisticRegression] | None = None
    for strength in INVERSE_STRENGTHS:
        probe = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is regularisation too
            probe.fit(latents.train, train)
        val_top1 = float(np.mean(probe.predict(latents.val) == val))
        if best is None or val_top1 > best[0]:
            best = (val_top1, strength, probe)
    assert best is not None
    return Probe(best[2].predict(latents.test) == test, best[0], best[1])


@one_blas_thread()
def nearest_neighbours(queries: np.ndarray, candidates: np.ndarray, *, count: int) -> np.ndarray:
    """Return the `count` rows of `candidates` (m, D) with the highest cosine to each row of `queries` (n, D).

    They are int64 (n, count), the highest cosine first.
    """
    queries, candidates = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (queries, candidates)
    )
    neighbours = []
    for start in range(0, len(queries), _NUM_QUERIES):
        cosines = queries[start : start + _NUM_QUERIES] @ candidates.T
        neighbours.append(np.argsort(-cosines, axis=1, kind="stable")[:, :count])
    return np.concatenate(neighbours)


def same_class_shares(neighbours: np.ndarray, *, labels: np.ndarray, train_labels: np.ndarray) -> np.ndarray:
    """Return for each test image the share of its neighbours that have its label, float64 (n,)."""
    is_same: np.ndarray = train_labels[neighbours] == labels[:, None]
    shares: np.ndarray = is_same.mean(axis=1)
    return shares
