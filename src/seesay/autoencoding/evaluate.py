"""How good is an autoencoder: what it draws, what it completes, and what its latents say of the class?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seesay.autoencoding.latents import (
    Latents,
    linear_probe,
    nearest_neighbours,
    share_of_same_class,
    standardised_latents,
)
from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.reconstruct import (
    SMALLEST_PATCH,
    Reconstructions,
    compare_drawn,
    evaluation_masks,
    inpaint,
    mean_image_mse,
    mean_psnr,
    mse_where,
    patch_similarity,
    psnr_of,
    reconstruct,
)
from seesay.classification.evaluate import predict_split
from seesay.classification.networks.registry import restore_classifier
from seesay.compute import Compute
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import Masking
from seesay.params.results import Evaluation
from seesay.resampling import with_interval
from seesay.training.checkpoint import Checkpoint, load_checkpoint

NUM_NEIGHBOURS = 5


@dataclass(frozen=True)
class Completion:
    """Test images of which the pixels where `hidden`, bool (n, S, S), were not shown: what the autoencoder draws of
    them, and what inpainting makes of them."""

    hidden: np.ndarray
    drawn: Reconstructions
    inpainted: Reconstructions


@dataclass(frozen=True)
class MeasuredAutoencoder:
    """Everything that is measured on test; `neighbours` are training images, int64 (n, 5), the nearest first."""

    reconstructions: Reconstructions
    completion: Completion | None
    latents: Latents
    neighbours: np.ndarray
    metrics: dict[str, float]


def measure_autoencoder(
    autoencoder: LatentAutoencoder,
    masking: Masking | None,
    images: PackedImages,
    settings: Evaluation,
    *,
    classifier: Checkpoint | None,
    compute: Compute,
) -> MeasuredAutoencoder:
    """`classifier` is the one that it is built on, whose accuracy stands beside the probe's.

    Metrics, all of test: `mse`, `psnr` (dB: the mean of each image's, with interval), `ssim`, `mean_image_psnr`, what
    always drawing the mean training image would get; `probe_top1` (with interval), `classifier_top1`,
    `neighbours_same_class`; `latent_size`. Where the autoencoder completes images those of `completion_metrics`.
    """
    batch_size = settings.batch_size
    drawn = reconstruct(autoencoder, images.test, batch_size=batch_size, compute=compute)
    metrics = {
        "test/mse": float(np.mean(drawn.mse)),
        **_with_interval("test/psnr", psnr_of(drawn.mse), settings),
        "test/ssim": float(np.mean(drawn.ssim)),
        "test/mean_image_psnr": mean_psnr(mean_image_mse(images)),
        "latent_size": float(autoencoder.latent_size),
    }
    latents = standardised_latents(autoencoder, images, batch_size=batch_size, compute=compute)
    labels = {name: np.asarray(split.labels) for name, split in images.splits.items()}
    probe = linear_probe(latents, **labels)
    neighbours = nearest_neighbours(latents.test, latents.train, count=NUM_NEIGHBOURS)
    same = share_of_same_class(neighbours, labels=labels["test"], of_train=labels["train"])
    metrics |= _with_interval("test/probe_top1", probe.is_right.astype(np.float64), settings)
    metrics |= {"val/probe_top1": probe.val_top1, "probe_inverse_strength": probe.inverse_strength}
    metrics["test/neighbours_same_class"] = float(np.mean(same))
    if classifier is not None:
        answers = predict_split(
            restore_classifier(classifier), images, images.test, batch_size=batch_size, compute=compute
        )
        metrics["test/classifier_top1"] = float(np.mean(answers.predicted == labels["test"]))
    completion = None
    if masking is not None:
        completion = complete(autoencoder, masking, images, batch_size=batch_size, compute=compute)
        metrics |= completion_metrics(completion, masking, images, settings)
    return MeasuredAutoencoder(drawn, completion, latents, neighbours, metrics)


def complete(
    autoencoder: LatentAutoencoder, masking: Masking, images: PackedImages, *, batch_size: int, compute: Compute
) -> Completion:
    """The test images, some patches of each hidden, completed by the autoencoder and by inpainting."""
    test = images.test
    hidden = evaluation_masks(masking, "test", len(test), image_size=images.image_size)
    drawn = reconstruct(autoencoder, test, batch_size=batch_size, compute=compute, hidden=hidden)
    filled = inpaint(np.asarray(test.images), hidden, radius=masking.patch_size)
    return Completion(hidden, drawn, compare_drawn(filled, test, batch_size=batch_size))


def completion_metrics(
    completion: Completion, masking: Masking, images: PackedImages, settings: Evaluation
) -> dict[str, float]:
    """Of test's hidden pixels, and where the key says so of the visible ones.

    `hidden_psnr` and `visible_psnr` (dB, the means of each image's over those pixels) with `hidden_mse` and
    `visible_mse` of what is drawn; `inpainting_hidden_psnr`, and `psnr_over_inpainting`, the mean paired difference in
    dB; `mean_image_hidden_psnr`. All of PSNR but the second and the last have intervals. `hidden_ssim`, `visible_ssim`
    and `inpainting_hidden_ssim` are of patches by themselves, where these are large enough.
    """
    hidden = completion.hidden
    ours, theirs = (psnr_of(mse_where(one.squared_errors, hidden)) for one in (completion.drawn, completion.inpainted))
    of_visible = mse_where(completion.drawn.squared_errors, ~hidden)
    metrics = {
        **_with_interval("test/hidden_psnr", ours, settings),
        "test/hidden_mse": float(np.mean(mse_where(completion.drawn.squared_errors, hidden))),
        "test/visible_psnr": mean_psnr(of_visible),
        "test/visible_mse": float(np.mean(of_visible)),
        **_with_interval("test/inpainting_hidden_psnr", theirs, settings),
        **_with_interval("test/psnr_over_inpainting", ours - theirs, settings),
        "test/mean_image_hidden_psnr": mean_psnr(mean_image_mse(images, chosen=hidden)),
    }
    if masking.patch_size >= SMALLEST_PATCH:
        patches, truth = hidden[:, :: masking.patch_size, :: masking.patch_size], np.asarray(images.test.images)
        for key, drawn, chosen in (
            ("hidden_ssim", completion.drawn, patches),
            ("visible_ssim", completion.drawn, ~patches),
            ("inpainting_hidden_ssim", completion.inpainted, patches),
        ):
            found = patch_similarity(drawn.images, truth, chosen, batch_size=settings.batch_size)
            metrics[f"test/{key}"] = float(np.mean(found))
    return metrics


def load_backbone_classifier(path: Path, images: PackedImages) -> Checkpoint:
    """The classifier an autoencoder is built on; `InputError` where it is missing or of other classes."""
    checkpoint = load_checkpoint(path, kind="classifier")
    checkpoint.require_classes(images.classes)
    return checkpoint


def _with_interval(key: str, values: np.ndarray, settings: Evaluation) -> dict[str, float]:
    return with_interval(key, values, num_resamples=settings.bootstrap_resamples, seed=settings.bootstrap_seed)
