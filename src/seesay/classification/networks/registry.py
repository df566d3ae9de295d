"""The registry of classifiers, and building and restoring them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from seesay.classification.networks.alexnet import AlexNet, AlexNetMini
from seesay.classification.networks.plain_cnn import MLP, PlainCNN
from seesay.classification.networks.pretrained import Pretrained
from seesay.classification.networks.resnets import ResNet9, ResNet18
from seesay.core.errors import InputError
from seesay.core.settings import validate
from seesay.params.classification import ENSEMBLE, Architecture
from seesay.training.build import construct, restore, seeded_initialisation
from seesay.training.checkpoint import Checkpoint, DescribedArchitecture, load_checkpoint

CLASSIFIERS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "plain_cnn": PlainCNN,
    "alexnet_mini": AlexNetMini,
    "alexnet": AlexNet,
    "resnet9": ResNet9,
    "resnet18": ResNet18,
    "pretrained": Pretrained,
}


class Ensemble(nn.Module):
    """A classifier whose logits are the logarithm of its members' mean probabilities.

    Members take (N, 3, S, S) normalised floats and return (N, num_classes) logits of the same classes in the same
    order; so does the ensemble.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        logs = torch.stack([member(images).float().log_softmax(dim=1) for member in self.members])
        # The mean of probabilities, not of logits: an unsure member then has less weight.
        return logs.logsumexp(dim=0) - torch.log(torch.tensor(float(len(self.members)), device=logs.device))


def build_classifier(
    architecture: Architecture, *, num_classes: int, image_size: int, seed: int, key: str
) -> nn.Module:
    """Build a new classifier: (N, 3, image_size, image_size) normalised floats to (N, num_classes) logits.

    Its initial weights depend on `seed` and the architecture's name. Raises `InputError` naming the wrong key below
    `key`, the dotted path of `architecture` in params.yaml.
    """
    with seeded_initialisation(seed, "classifier", architecture.name):
        classifier = construct(CLASSIFIERS, architecture, key=key, num_classes=num_classes, image_size=image_size)
    check_head(classifier, num_classes=num_classes, image_size=image_size)
    return classifier


def load_members(folder: Path) -> list[Checkpoint]:
    """Load the checkpoints `0.pt`, `1.pt`, ... of a classifier experiment; raise `InputError` if there is no `0.pt`."""
    checkpoints = [load_checkpoint(folder / "0.pt", kind="classifier")]
    while (path := folder / f"{len(checkpoints)}.pt").exists():
        checkpoints.append(load_checkpoint(path, kind="classifier"))
    return checkpoints


def restore_classifier(checkpoint: Checkpoint) -> nn.Module:
    """Restore the trained classifier in `checkpoint`, in evaluation mode; raise `InputError` where parts do not fit."""
    classifier = restore(lambda: _build_described(checkpoint), checkpoint.state_dict)
    if len(checkpoint.classes) != checkpoint.sizes["num_classes"]:
        raise InputError(
            f"checkpoint: lists {len(checkpoint.classes)} classes, its head has {checkpoint.sizes['num_classes']}"
        )
    check_head(classifier, num_classes=len(checkpoint.classes), image_size=checkpoint.image_size)
    return classifier


def ensemble_of(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Combine `checkpoints` of one dataset into the checkpoint of an `Ensemble`, without metrics."""
    first = checkpoints[0]
    members = [restore_classifier(checkpoint) for checkpoint in checkpoints]
    return replace(
        first,
        architecture={"name": ENSEMBLE, "arguments": {"members": [one.architecture for one in checkpoints]}},
        settings={"members": [one.settings for one in checkpoints]},
        state_dict=Ensemble(members).state_dict(),
        metrics={},
    )


def check_head(classifier: nn.Module, *, num_classes: int, image_size: int) -> None:
    """Raise `InputError` unless the classifier takes images of `image_size` pixels and returns `num_classes` logits."""
    was_training = classifier.training
    parameter = next(classifier.parameters())
    try:
        with torch.no_grad():
            logits = classifier.eval()(torch.zeros(1, 3, image_size, image_size, device=parameter.device))
    except (RuntimeError, AssertionError) as error:  # as torch and timm report shapes that do not fit
        reason = str(error).partition("\n")[0]
        raise InputError(f"the classifier takes no images of {image_size} pixels: {reason}") from None
    finally:
        classifier.train(was_training)
    if logits.shape != (1, num_classes):
        raise InputError(
            f"the classifier's head returns {tuple(logits.shape)[1:]} logits, the data has {num_classes} classes"
        )


def _build_described(checkpoint: Checkpoint) -> nn.Module:
    """Build the network that `checkpoint` describes, without its weights."""
    if checkpoint.architecture["name"] == ENSEMBLE:
        described = checkpoint.architecture["arguments"].get("members")
        members: list[DescribedArchitecture] = validate(
            described, list[DescribedArchitecture], where="checkpoint", prefix=["architecture", "arguments", "members"]
        )
        return Ensemble([_build_described(replace(checkpoint, architecture=dict(member))) for member in members])
    return construct(
        CLASSIFIERS, checkpoint.parsed_architecture, key="architecture", where="checkpoint", **checkpoint.sizes
    )
