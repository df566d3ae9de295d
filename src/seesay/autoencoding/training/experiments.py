"""Autoencoder experiments: random weights, a classifier's backbone, or principal components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seesay.autoencoding.networks.backbone import BackboneAutoencoder
from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.networks.pca import PcaAutoencoder
from seesay.autoencoding.networks.registry import build_autoencoder, load_backbone
from seesay.autoencoding.training.fit import autoencoder_checkpoint, fit_autoencoder
from seesay.autoencoding.training.pca import fit_principal_components
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.packed import PackedImages
from seesay.params.autoencoding import Autoencoder
from seesay.training.checkpoint import Checkpoint, load_checkpoint
from seesay.training.loop import Log


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
