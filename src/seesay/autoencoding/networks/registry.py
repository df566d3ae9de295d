"""The registry of autoencoders: building, loading a classifier's backbone, restoring from a checkpoint."""

from __future__ import annotations

from seesay.autoencoding.networks.backbone import BackboneAutoencoder, backbone_of
from seesay.autoencoding.networks.base import LatentAutoencoder, PcaAutoencoder
from seesay.autoencoding.networks.convolutional import ConvAutoencoder, ResidualAutoencoder
from seesay.classification.networks.registry import restore_classifier
from seesay.core.errors import InputError
from seesay.core.settings import validate
from seesay.params.autoencoding import BACKBONE_AUTOENCODER, PCA, Autoencoder
from seesay.params.classification import Architecture
from seesay.training.build import construct, load_weights, restore, seeded_initialisation
from seesay.training.checkpoint import Checkpoint

AUTOENCODERS: dict[str, type[LatentAutoencoder]] = {
    "conv_autoencoder": ConvAutoencoder,
    "residual_autoencoder": ResidualAutoencoder,
    BACKBONE_AUTOENCODER: BackboneAutoencoder,
    PCA: PcaAutoencoder,
}


def build_autoencoder(architecture: Architecture, *, image_size: int, seed: int, key: str) -> LatentAutoencoder:
    """Build a new autoencoder of images (N, 3, image_size, image_size), floats in [0, 1].

    Its initial weights depend on `seed` and the architecture's name. Raises `InputError` naming what is wrong under
    `key`, the dotted path of `architecture` in params.yaml.
    """
    with seeded_initialisation(seed, "autoencoder", architecture.name):
        return construct(AUTOENCODERS, architecture, key=key, image_size=image_size)


def load_backbone(autoencoder: LatentAutoencoder, settings: Architecture, classifier: Checkpoint, *, name: str) -> None:
    """Load the trained backbone and the normalisation of `classifier`, the experiment `name`, into `autoencoder`.

    Raises `InputError` where the classifier's architecture is not that of the backbone in `settings`.
    """
    assert isinstance(autoencoder, BackboneAutoencoder), type(autoencoder)
    configured, trained = settings.arguments["backbone"], classifier.parsed_architecture
    expected = {"name": trained.name, **trained.arguments}
    if dict(configured) != expected:
        raise InputError(
            f"architecture.backbone: got {_describe(configured)}: expected the architecture in the checkpoint of "
            f"classifiers.{name}: {_describe(expected)}"
        )
    backbone = backbone_of(restore_classifier(classifier), name=trained.name)
    load_weights(autoencoder.backbone, backbone.state_dict())
    autoencoder.set_normalisation(classifier.normalisation["mean"], classifier.normalisation["std"])


def autoencoder_settings(checkpoint: Checkpoint) -> Autoencoder:
    """Return the settings that the autoencoder in `checkpoint` was trained with."""
    settings: Autoencoder = validate(checkpoint.settings, Autoencoder, where="checkpoint", prefix=["settings"])
    return settings


def restore_autoencoder(checkpoint: Checkpoint) -> LatentAutoencoder:
    """Restore the autoencoder in `checkpoint`, in evaluation mode; raises `InputError` where its parts do not fit."""
    return restore(
        lambda: construct(
            AUTOENCODERS, checkpoint.parsed_architecture, key="architecture", where="checkpoint", **checkpoint.sizes
        ),
        checkpoint.state_dict,
    )


def _describe(architecture: object) -> str:
    assert isinstance(architecture, dict)
    return ", ".join(f"{name} {value}" for name, value in architecture.items())
