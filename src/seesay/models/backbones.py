"""Which part of a classifier turns images into a map of features, before anything is pooled over places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from seesay.errors import InputError
from seesay.models.alexnet import AlexNet
from seesay.models.alexnet_mini import AlexNetMini
from seesay.models.classifiers import CLASSIFIERS
from seesay.models.construction import construct
from seesay.models.plain_cnn import PlainCNN
from seesay.models.pretrained import Pretrained
from seesay.models.resnet9 import ResNet9
from seesay.models.resnet18 import ResNet18
from seesay.params.experiments import Architecture

_RESNET_LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class BackboneArguments(BaseModel):
    """How params name the classifier that a backbone is of: as under `classifiers`, `name` and its own arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def architecture(self) -> Architecture:
        return Architecture(name=self.name, **(self.model_extra or {}))


def build_backbone(described: BackboneArguments, *, image_size: int) -> nn.Module:
    """The backbone of a new classifier: (N, 3, image_size, image_size) normalised floats to (N, C, h, w).

    Raises `InputError` for an architecture that is unknown, wrongly described or has no map of features.
    """
    # How many classes a head tells apart does not matter to what comes before it.
    sizes = {"num_classes": 1, "image_size": image_size}
    classifier = construct(CLASSIFIERS, described.architecture, key="architecture", where="backbone", **sizes)
    return backbone_of(classifier, name=described.name)


def backbone_of(classifier: nn.Module, *, name: str) -> nn.Module:
    """The modules of `classifier`, an architecture called `name`, that come before its pooling; shared, not copied."""
    match classifier:
        case ResNet9() | PlainCNN() | AlexNetMini() | AlexNet():
            return classifier.body
        case ResNet18():
            return nn.Sequential(*(getattr(classifier.network, layer) for layer in _RESNET_LAYERS))
        case Pretrained():
            return _Enlarging(classifier, name)
    raise InputError(f"backbone: {name} has no map of features: an autoencoder needs one with places")


def map_shape(backbone: nn.Module, *, image_size: int) -> tuple[int, int]:
    """Channels and positions a side of a backbone's map, which is square; asked by an image."""
    was_training = backbone.training
    device = next(backbone.parameters()).device
    with torch.no_grad():
        found = backbone.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    backbone.train(was_training)
    return found.shape[1], found.shape[2]


class _Enlarging(nn.Module):
    """The maps of a `Pretrained` classifier, which enlarges images and normalises them anew."""

    scale: Tensor
    shift: Tensor

    def __init__(self, classifier: Pretrained, name: str) -> None:
        super().__init__()
        self.input_size = classifier.input_size
        network = classifier.backbone
        if isinstance(getattr(network, "features", None), nn.Module):
            self.layers: nn.Module = network.features
        elif all(hasattr(network, layer) for layer in _RESNET_LAYERS):
            self.layers = nn.Sequential(*(getattr(network, layer) for layer in _RESNET_LAYERS))
        else:
            raise InputError(f"backbone: {name} {classifier.architecture}: where its map of features is, is not known")
        self.register_buffer("scale", classifier.scale)
        self.register_buffer("shift", classifier.shift)

    def forward(self, images: Tensor) -> Tensor:
        images = images * self.scale + self.shift
        images = F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)
        features: Tensor = self.layers(images)
        return features
