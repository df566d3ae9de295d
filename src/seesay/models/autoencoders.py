"""Which autoencoders there are, and how one is built or restored."""

from __future__ import annotations

from torch import nn

from seesay.models.checkpoint import Checkpoint
from seesay.models.construction import construct, load_weights, seeded_initialisation
from seesay.models.conv_autoencoder import ConvAutoencoder
from seesay.params.experiments import Architecture

AUTOENCODERS: dict[str, type[nn.Module]] = {"conv_autoencoder": ConvAutoencoder}


def build_autoencoder(architecture: Architecture, *, image_size: int, seed: int, key: str) -> nn.Module:
    """A new autoencoder: (N, 3, image_size, image_size) floats in [0, 1] to their reconstructions.

    Its first weights depend on `seed` and the architecture's name. Raises `InputError` naming what is wrong under
    `key`, the dotted path of `architecture` in params.yaml.
    """
    with seeded_initialisation(seed, "autoencoder", architecture.name):
        return construct(AUTOENCODERS, architecture, key=key, image_size=image_size)


def restore_autoencoder(checkpoint: Checkpoint) -> nn.Module:
    """The trained autoencoder in `checkpoint`, in evaluation mode; raises `InputError` where its parts do not fit."""
    autoencoder = construct(
        AUTOENCODERS, checkpoint.parsed_architecture, key="architecture", where="checkpoint", **checkpoint.sizes
    )
    load_weights(autoencoder, checkpoint.state_dict)
    return autoencoder.eval()
