"""Which classifiers there are, and how one is built or restored."""

from __future__ import annotations

import torch
from torch import nn

from seesay.errors import InputError
from seesay.models.checkpoint import Checkpoint
from seesay.models.construction import construct, load_weights, seeded_initialisation
from seesay.models.mlp import MLP
from seesay.models.plain_cnn import PlainCNN
from seesay.models.resnet9 import ResNet9
from seesay.params.experiments import Architecture

CLASSIFIERS: dict[str, type[nn.Module]] = {"mlp": MLP, "plain_cnn": PlainCNN, "resnet9": ResNet9}


def build_classifier(
    architecture: Architecture, *, num_classes: int, image_size: int, seed: int, key: str
) -> nn.Module:
    """A new classifier: (N, 3, image_size, image_size) normalised floats to (N, num_classes) logits.

    Its first weights depend on `seed` and the architecture's name. Raises `InputError` naming what is wrong under
    `key`, the dotted path of `architecture` in params.yaml.
    """
    with seeded_initialisation(seed, "classifier", architecture.name):
        classifier = construct(CLASSIFIERS, architecture, key=key, num_classes=num_classes, image_size=image_size)
    check_head(classifier, num_classes=num_classes, image_size=image_size)
    return classifier


def restore_classifier(checkpoint: Checkpoint) -> nn.Module:
    """The trained classifier in `checkpoint`, in evaluation mode; raises `InputError` where its parts do not fit."""
    classifier = construct(
        CLASSIFIERS, checkpoint.parsed_architecture, key="architecture", where="checkpoint", **checkpoint.sizes
    )
    load_weights(classifier, checkpoint.state_dict)
    if len(checkpoint.classes) != checkpoint.sizes["num_classes"]:
        raise InputError(
            f"checkpoint: names {len(checkpoint.classes)} classes, its head has {checkpoint.sizes['num_classes']}"
        )
    check_head(classifier, num_classes=len(checkpoint.classes), image_size=checkpoint.sizes["image_size"])
    return classifier.eval()


def check_head(classifier: nn.Module, *, num_classes: int, image_size: int) -> None:
    """Raises `InputError` unless the classifier gives `num_classes` logits for an image of `image_size` pixels."""
    was_training = classifier.training
    parameter = next(classifier.parameters())
    with torch.no_grad():
        logits = classifier.eval()(torch.zeros(1, 3, image_size, image_size, device=parameter.device))
    classifier.train(was_training)
    if logits.shape != (1, num_classes):
        raise InputError(
            f"the classifier's head gives {tuple(logits.shape)[1:]} logits, the data has {num_classes} classes"
        )
