"""How an encoder is taken up to learn: unfused, in evaluation mode, some of its first blocks frozen."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor, fx, nn

from seesay.captioning.features.encoders import FeatureEncoder, encoder_of_classifier, encoder_of_network
from seesay.classification.networks.registry import restore_classifier
from seesay.classification.networks.torchvision_weights import read_torchvision_weights
from seesay.core.errors import InputError
from seesay.core.files import write_bytes
from seesay.training.checkpoint import Checkpoint, save_checkpoint


@dataclass(frozen=True)
class TrainableEncoder:
    """`encoder` shares its parameters with `network`, which has lost its head; `first` are all weights it came with,
    `checkpoint` what its file held where it is a classifier of ours."""

    encoder: FeatureEncoder
    network: nn.Module
    first: Mapping[str, Tensor]
    checkpoint: Checkpoint | None

    def save(self, path: Path) -> None:
        """Writes a file like the one it came from: the head as it was, the rest as it is now."""
        now = self.network.state_dict()
        weights = {
            name: now.get(name, tensor).detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in self.first.items()
        }
        if self.checkpoint is not None:
            save_checkpoint(path, replace(self.checkpoint, state_dict=weights, metrics={}))  # no classifier's any more
            return
        buffer = io.BytesIO()  # a path would stand in the file
        torch.save(weights, buffer)
        write_bytes(path, buffer.getvalue())


def trainable_network(name: str, weights_path: Path, *, grid_size: int | None) -> TrainableEncoder:
    """torchvision's network of that name; `InputError` for weights that are not its own."""
    network = torchvision.models.get_model(name, weights=None)
    read_torchvision_weights(network, weights_path, name)
    first = network.state_dict()
    encoder = encoder_of_network(network, name, grid_size=grid_size, trace=fx.symbolic_trace)
    return TrainableEncoder(encoder, network, first, None)


def trainable_classifier(checkpoint: Checkpoint, cell: str, *, grid_size: int | None) -> TrainableEncoder:
    """The classifier in `checkpoint`; `InputError` for one that keeps no places. `cell` is for errors."""
    classifier = restore_classifier(checkpoint)
    first = classifier.state_dict()
    encoder = encoder_of_classifier(classifier, checkpoint, cell, grid_size=grid_size, trace=fx.symbolic_trace)
    return TrainableEncoder(encoder, classifier, first, checkpoint)


def unfreeze(encoder: FeatureEncoder, frozen_blocks: int, *, key: str) -> list[str]:
    """Lets all blocks but the first `frozen_blocks` learn; returns their parameters' names.

    Raises `InputError` naming `key` where none is left.
    """
    blocks = blocks_of(encoder.network)
    if frozen_blocks >= len(blocks):
        expected = f"less than {len(blocks)}, the blocks of this encoder"
        raise InputError(f"{key}: got {frozen_blocks}: expected {expected}")
    for block in blocks[frozen_blocks:]:
        block.requires_grad_(True)
    return [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The parts of `network` that have weights, from the input on: its children, and those of a child `features`; what
    only wraps one part is looked through."""
    children = [(name, child) for name, child in network.named_children() if any(True for _ in child.parameters())]
    if not children:
        return [network]
    if len(children) == 1:
        return blocks_of(children[0][1])
    return [block for name, child in children for block in (blocks_of(child) if name == "features" else [child])]
