"""Evaluation of an autoencoder on test: reconstructions, completed patches, and classes in its latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seesay.autoencoding.latents import (
    Latents,
    linear_probe,
    nearest_neighbours,
    same_class_shares,
    standardised_latents,
)
from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.reconstruct import (
    Reconstructions,
    evaluation_masks,
    inpaint,
    masked_mse,
    mean_image_mse,
    mean_psnr,
    patch_ssim,
    psnr_from_mse,
    reconstruct,
    score_reconstructions,
)
from seesay.classification.evaluate import predict_split
from seesay.classification.networks.registry import restore_classifier
from seesay.compute import Compute
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import SMALLEST_PATCH, Masking
from seesay.params.results import Evaluation
from seesay.resampling import with_interval
from seesay.training.checkpoint import Checkpoint, load_checkpoint

NUM_NEIGHBOURS = 5


@dataclass(frozen=True)
class Completion:
    """Test images with hidden patches, completed by the autoencoder and by inpainting.

    `hidden`, bool (n, S, S), marks the hidden pixels.
    """

    hidden: np.ndarray
    completed: Reconstructions
    inpainted: Reconstructions


@dataclass(frozen=True)
class AutoencoderEvaluation:
    """All results on test. `neighbours` are rows of training images, int64 (n, 5), the nearest first."""

    reconstructions: Reconstructions
    completion: Completion | None
    latents: Latents
    neighbours: np.ndarray
    metrics: dict[str, float]


def evaluate_autoencoder(
    autoencoder: LatentAutoencoder,
    masking: Masking | None,
    images: PackedImages,
    settings: Evaluation,
    *,
    classifier: Checkpoint | None,
    compute: Compute,
) -> AutoencoderEvaluation:
    """Evaluate `autoencoder` on test.

    `classifier` is the one whose backbone the autoencoder started from. Its accuracy is reported for comparison with
    the linear probe's.

    Metrics on test: `mse`; `psnr` (dB, the mean over images, with interval); `ssim`; `mean_image_psnr`, the PSNR of
    always predicting the mean training image; `probe_top1` (with interval); `classifier_top1`;
    `neighbours_same_class`. Others: `latent_size`, `val/probe_top1`, `probe_inverse_strength`. With `masking` also
    those of `completion_metrics`.
    """
    batch_size = settings.batch_size
    reconstructions = reconstruct(autoencoder, images.test, batch_size=batch_size, compute=compute)
    metrics = {
        "test/mse": float(np.mean(reconstructions.mse)),
        **_with_interval("test/psnr", psnr_from_mse(reconstructions.mse), settings),
        "test/ssim": float(np.mean(reconstructions.ssim)),
        "test/mean_image_psnr": mean_psnr(mean_image_mse(images)),
        "latent_size": float(autoencoder.latent_size),
    }
    latents = standardised_latents(autoencoder, images, batch_size=batch_size, compute=compute)
    labels = {name: np.asarray(split.labels) for name, split in images.splits.items()}
    probe = linear_probe(latents, **labels)
    neighbours = nearest_neighbours(latents.test, latents.train, count=NUM_NEIGHBOURS)
    same_class = same_class_shares(neighbours, labels=labels["test"], train_labels=labels["train"])
    metrics |= _with_interval("test/probe_top1", probe.is_correct.astype(np.float64), settings)
    metrics |= {"val/probe_top1": probe.val_top1, "probe_inverse_strength": probe.inverse_strength}
    metrics["test/neighbours_same_class"] = float(np.mean(same_class))
    if classifier is not None:
        predictions = predict_split(
            restore_classifier(classifier), images, images.test, batch_size=batch_size, compute=compute
        )
        metrics["test/classifier_top1"] = float(np.mean(predictions.predicted == labels["test"]))
    completion = None
    if masking is not None:
        completion = complete(autoencoder, masking, images, batch_size=batch_size, compute=compute)
        metrics |= completion_metrics(completion, masking, images, settings)
    return AutoencoderEvaluation(reconstructions, completion, latents, neighbours, metrics)


def complete(
    autoencoder: LatentAutoencoder, masking: Masking, images: PackedImages, *, batch_size: int, compute: Compute
) -> Completion:
    """Hide patches of the test images, and complete them with the autoencoder and with inpainting."""
    test = images.test
    hidden = evaluation_masks(masking, "test", len(test), image_size=images.image_size)
    completed = reconstruct(autoencoder, test, batch_size=batch_size, compute=compute, hidden=hidden)
    inpainted = inpaint(np.asarray(test.images), hidden, radius=masking.patch_size)
    return Completion(hidden, completed, score_reconstructions(inpainted, test, batch_size=batch_size))


def completion_metrics(
    completion: Completion, masking: Masking, images: PackedImages, settings: Evaluation
) -> dict[str, float]:
    """Return metrics over test's hidden pixels and, under the `visible_` keys, over its visible ones.

    PSNR, in dB, is the mean over images of each image's PSNR over those pixels: `hidden_psnr`, `visible_psnr`,
    `inpainting_hidden_psnr`, `mean_image_hidden_psnr`, and `psnr_over_inpainting`, the mean paired difference. All but
    `visible_psnr` and `mean_image_hidden_psnr` have intervals. `hidden_mse` and `visible_mse` are the autoencoder's.
    `hidden_ssim`, `visible_ssim` and `inpainting_hidden_ssim` treat each patch as an image of its own, and are left out
    where patches are too small for SSIM.
    """
    hidden = completion.hidden
    ours, inpainting = (
        psnr_from_mse(masked_mse(one.squared_errors, hidden)) for one in (completion.completed, completion.inpainted)
    )
    visible_mse = masked_mse(completion.completed.squared_errors, ~hidden)
    metrics = {
        **_with_interval("test/hidden_psnr", ours, settings),
        "test/hidden_mse": float(np.mean(masked_mse(completion.completed.squared_errors, hidden))),
        "test/visible_psnr": mean_psnr(visible_mse),
        "test/visible_mse": float(np.mean(visible_mse)),
        **_with_interval("test/inpainting_hidden_psnr", inpainting, settings),
        **_with_interval("test/psnr_over_inpainting", ours - inpainting, settings),
        "test/mean_image_hidden_psnr": mean_psnr(mean_image_mse(images, mask=hidden)),
    }
    if masking.patch_size >= SMALLEST_PATCH:
        patches, originals = hidden[:, :: masking.patch_size, :: masking.patch_size], np.asarray(images.test.images)
        for key, reconstructions, mask in (
            ("hidden_ssim", completion.completed, patches),
            ("visible_ssim", completion.completed, ~patches),
            ("inpainting_hidden_ssim", completion.inpainted, patches),
        ):
            ssim = patch_ssim(reconstructions.images, originals, mask, batch_size=settings.batch_size)
            metrics[f"test/{key}"] = float(np.mean(ssim))
    return metrics


def load_backbone_classifier(path: Path, images: PackedImages) -> Checkpoint:
    """Load the classifier whose backbone an autoencoder started from.

    Raises `InputError` where it is missing or its classes are not those of `images`.
    """
    checkpoint = load_checkpoint(path, kind="classifier")
    checkpoint.require_classes(images.classes)
    return checkpoint


def _with_interval(key: str, values: np.ndarray, settings: Evaluation) -> dict[str, float]:
    return with_interval(key, values, num_resamples=settings.bootstrap_resamples, seed=settings.bootstrap_seed)
