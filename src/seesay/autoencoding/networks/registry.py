"""Which autoencoders there are, and how one is built, started from a classifier, or restored."""

from __future__ import annotations

from seesay.autoencoding.networks.backbone import BackboneAutoencoder, backbone_of
from seesay.autoencoding.networks.base import LatentAutoencoder
from seesay.autoencoding.networks.conv import ConvAutoencoder
from seesay.autoencoding.networks.pca import PcaAutoencoder
from seesay.autoencoding.networks.residual import ResidualAutoencoder
from seesay.classification.networks.registry import restore_classifier
from seesay.core.errors import InputError
from seesay.core.settings import validate
from seesay.params.autoencoding import BACKBONE_AUTOENCODER, PCA, Autoencoder
from seesay.params.classification import Architecture
from seesay.training.build import construct, load_weights, seeded_initialisation
from seesay.training.checkpoint import Checkpoint

AUTOENCODERS: dict[str, type[LatentAutoencoder]] = {
    "conv_autoencoder": ConvAutoencoder,
    "residual_autoencoder": ResidualAutoencoder,
    BACKBONE_AUTOENCODER: BackboneAutoencoder,
    PCA: PcaAutoencoder,
}


def build_autoencoder(architecture: Architecture, *, image_size: int, seed: int, key: str) -> LatentAutoencoder:
    """A new autoencoder: (N, 3, image_size, image_size) floats in [0, 1] to their reconstructions.

    Its first weights depend on `seed` and the architecture's name. Raises `InputError` naming what is wrong under
    `key`, the dotted path of `architecture` in params.yaml.
    """
    with seeded_initialisation(seed, "autoencoder", architecture.name):
        return construct(AUTOENCODERS, architecture, key=key, image_size=image_size)


def take_backbone(autoencoder: LatentAutoencoder, settings: Architecture, classifier: Checkpoint, *, name: str) -> None:
    """Puts the trained backbone of `classifier`, the cell called `name`, into `autoencoder`, and its normalisation.

    Raises `InputError` where the classifier is of another architecture than `settings` says the backbone is.
    """
    assert isinstance(autoencoder, BackboneAutoencoder), type(autoencoder)
    wanted, found = settings.arguments["backbone"], classifier.parsed_architecture
    if dict(wanted) != {"name": found.name, **found.arguments}:
        raise InputError(
            f"architecture.backbone: got {_described(wanted)}: expected what the checkpoint of classifiers.{name} is: "
            f"{_described({'name': found.name, **found.arguments})}"
        )
    trained = backbone_of(restore_classifier(classifier), name=found.name)
    load_weights(autoencoder.backbone, trained.state_dict())
    autoencoder.set_normalisation(classifier.normalisation["mean"], classifier.normalisation["std"])


def autoencoder_settings(checkpoint: Checkpoint) -> Autoencoder:
    """What the autoencoder in `checkpoint` was trained by."""
    settings: Autoencoder = validate(checkpoint.settings, Autoencoder, where="checkpoint", prefix=["settings"])
    return settings


def restore_autoencoder(checkpoint: Checkpoint) -> LatentAutoencoder:
    """The trained autoencoder in `checkpoint`, in evaluation mode; raises `InputError` where its parts do not fit."""
    autoencoder = construct(
        AUTOENCODERS, checkpoint.parsed_architecture, key="architecture", where="checkpoint", **checkpoint.sizes
    )
    load_weights(autoencoder, checkpoint.state_dict)
    return autoencoder.eval()


def _described(architecture: object) -> str:
    assert isinstance(architecture, dict)
    return ", ".join(f"{name} {value}" for name, value in architecture.items())
