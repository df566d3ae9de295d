"""Encoders for fine-tuning: batch norms unfused, in evaluation mode, with some first blocks frozen."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from seesay.captioning.features.adapters import BodyAdapter, PublishedAdapter
from seesay.captioning.features.encoders import FeatureEncoder, encoder_of_classifier, encoder_of_network
from seesay.classification.networks.published import layers_of, load_published
from seesay.classification.networks.registry import restore_classifier
from seesay.core.errors import InputError
from seesay.core.files import write_bytes
from seesay.training.checkpoint import Checkpoint, save_checkpoint


@dataclass(frozen=True)
class TrainableEncoder:
    """An encoder that can be trained and saved.

    `encoder` shares its parameters with `network`, which has lost its head. `initial` are all weights of its file, the
    head's included. `checkpoint` is the content of that file if it is one of our classifiers.
    """

    encoder: FeatureEncoder
    network: nn.Module
    initial: Mapping[str, Tensor]
    checkpoint: Checkpoint | None

    def save(self, path: Path) -> None:
        """Save a file of the same format as the one it was loaded from: the trained weights, and the initial head."""
        current = self.network.state_dict()
        weights = {
            name: current.get(name, tensor).detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in self.initial.items()
        }
        if self.checkpoint is not None:
            # The classifier's metrics do not hold for the fine-tuned weights.
            save_checkpoint(path, replace(self.checkpoint, state_dict=weights, metrics={}))
            return
        buffer = io.BytesIO()  # torch.save would store the name of a path in the file
        torch.save(weights, buffer)
        write_bytes(path, buffer.getvalue())


def trainable_network(name: str, weights_path: Path, *, grid_size: int | None) -> TrainableEncoder:
    """Load timm's model of that name; raise `InputError` for weights of another network."""
    network = load_published(name, weights_path)
    initial = network.state_dict()
    encoder = encoder_of_network(network, grid_size=grid_size, trainable=True)
    return TrainableEncoder(encoder, network, initial, None)


def trainable_classifier(checkpoint: Checkpoint, name: str, *, grid_size: int | None) -> TrainableEncoder:
    """Restore the classifier in `checkpoint`; error messages call it `name`.

    Raises `InputError` for a classifier without a feature map.
    """
    classifier = restore_classifier(checkpoint)
    initial = classifier.state_dict()
    encoder = encoder_of_classifier(classifier, checkpoint, name, grid_size=grid_size, trainable=True)
    return TrainableEncoder(encoder, classifier, initial, checkpoint)


def unfreeze(encoder: FeatureEncoder, frozen_blocks: int, *, key: str) -> list[str]:
    """Unfreeze all blocks but the first `frozen_blocks`; return the names of their parameters.

    Raises `InputError` naming `key` if no block is left.
    """
    blocks = blocks_of(encoder.network)
    if frozen_blocks >= len(blocks):
        raise InputError(f"{key}: got {frozen_blocks}: expected fewer than {len(blocks)}, the number of blocks")
    for block in blocks[frozen_blocks:]:
        for parameter in block:
            parameter.requires_grad_(True)
    return [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]


def blocks_of(network: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of an encoder's `network` by block, in order from the input.

    The blocks of a published network are timm's layers. Those of our classifiers are the children of the body.
    """
    if isinstance(network, PublishedAdapter):
        return [[network.network.get_parameter(name) for name in layer] for layer in layers_of(network.network)]
    assert isinstance(network, BodyAdapter), network
    blocks = [list(child.parameters()) for child in network.body.children()]
    return [block for block in blocks if block]
