"""An autoencoder whose encoder is a classifier's backbone: what does a network that classifies keep of an image?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seesay.autoencoding.networks.base import LatentAutoencoder, within_range
from seesay.autoencoding.networks.decoder import MapDecoder, check_widths
from seesay.classification.networks.base import ConvolutionalClassifier
from seesay.classification.networks.pretrained import Pretrained
from seesay.classification.networks.registry import CLASSIFIERS
from seesay.classification.networks.resnet18 import ResNet18
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.build import construct


class BackboneAutoencoder(LatentAutoencoder):
    """`backbone` names a classifier's architecture (`{name: resnet9, width: 32}`), whose last map of features becomes
    `latent_channels` numbers for each position by one linear map (64 x 4 x 4 = 1,024 for ResNet-9 and 64 pixels). They
    are all that the decoder sees: no connection skips them.

    Where `train_backbone` is false its weights stay, and so do its batch norms' statistics.
    """

    def __init__(
        self,
        image_size: int,
        *,
        backbone: BackboneArguments,
        train_backbone: bool,
        latent_channels: Annotated[int, Field(ge=1)],
        decoder_widths: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)],
        decoder_blocks: Annotated[int, Field(ge=1)],
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, image_size=image_size)
        self.train_backbone = train_backbone
        self.backbone.requires_grad_(train_backbone)
        channels, side = map_shape(self.backbone, image_size=image_size)
        check_widths(decoder_widths, side=side, image_size=image_size)
        self._latent_size = latent_channels * side**2
        self.to_latents = nn.Conv2d(channels, latent_channels, 1)
        self.decoder = MapDecoder(latent_channels, widths=decoder_widths, blocks=decoder_blocks)

    @property
    def latent_size(self) -> int:
        return self._latent_size

    def encode_normalised(self, images: Tensor) -> Tensor:
        latents: Tensor = self.to_latents(self.backbone(images))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return within_range(self.decoder(latents) * self.std + self.mean)

    def train(self, mode: bool = True) -> BackboneAutoencoder:
        super().train(mode)
        if not self.train_backbone:
            self.backbone.eval()
        return self

    def rate_scales(self, backbone_rate: float) -> dict[str, float]:
        """By parameter of the backbone: its learning rate as a share of the others'."""
        return {name: backbone_rate for name, _ in self.named_parameters() if name.startswith("backbone.")}


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
        case ConvolutionalClassifier():
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
