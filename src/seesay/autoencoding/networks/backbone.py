"""An autoencoder whose encoder is a classifier's backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seesay.autoencoding.networks.base import LatentAutoencoder, clamp_straight_through
from seesay.autoencoding.networks.decoder import Completion, MapDecoder, check_widths
from seesay.classification.networks.plain_cnn import ConvolutionalClassifier
from seesay.classification.networks.pretrained import Pretrained
from seesay.classification.networks.published import feature_map
from seesay.classification.networks.registry import CLASSIFIERS
from seesay.classification.networks.resnets import ResNet18
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.build import construct


class BackboneAutoencoder(LatentAutoencoder):
    """An autoencoder on the backbone of a classifier.

    `backbone` names the classifier's architecture (`{name: resnet9, width: 32}`). A 1x1 convolution maps each position
    of its last feature map to `latent_channels` numbers (64 x 4 x 4 = 1,024 for ResNet-9 and 64 pixels). The decoder
    gets nothing else: no connection goes around the latents. Where `train_backbone` is false, the backbone's weights
    and its batch norms' statistics are frozen.

    With `completion` (`{width: 64, blocks: 4}`, for masking) hidden pixels are completed from the decoded image and the
    visible pixels. Where nothing is hidden, images are decoded from latents alone.
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
        completion: CompletionArguments | None = None,
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
        self.completion = None if completion is None else Completion(width=completion.width, blocks=completion.blocks)

    @property
    def latent_size(self) -> int:
        return self._latent_size

    def encode_normalised(self, images: Tensor) -> Tensor:
        latents: Tensor = self.to_latents(self.backbone(images))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return clamp_straight_through(self.decoder(latents) * self.std + self.mean)

    def complete(self, latents: Tensor, images: Tensor, hidden: Tensor | None) -> Tensor:
        if self.completion is None or hidden is None:
            return self.decode(latents)
        completed = self.completion(self.decoder(latents), (images - self.mean) / self.std, hidden)
        return clamp_straight_through(completed * self.std + self.mean)

    def train(self, mode: bool = True) -> BackboneAutoencoder:
        super().train(mode)
        if not self.train_backbone:
            self.backbone.eval()
        return self

    def rate_scales(self, backbone_rate: float) -> dict[str, float]:
        """Return `backbone_rate`, a factor on the learning rate, for each parameter of the backbone."""
        return {name: backbone_rate for name, _ in self.named_parameters() if name.startswith("backbone.")}


class BackboneArguments(BaseModel):
    """A backbone in params: `name` and arguments of a classifier's architecture, as under `classifiers`."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def architecture(self) -> Architecture:
        return Architecture(name=self.name, **(self.model_extra or {}))


class CompletionArguments(BaseModel):
    """The size of a `Completion` in params."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    width: Annotated[int, Field(ge=1)]
    blocks: Annotated[int, Field(ge=1)]


def build_backbone(arguments: BackboneArguments, *, image_size: int) -> nn.Module:
    """Build the backbone of a new classifier: (N, 3, image_size, image_size) normalised floats to (N, C, h, w).

    Raises `InputError` for an architecture that is unknown, has wrong arguments or has no feature map.
    """
    # The number of classes is arbitrary: it only changes the head, which is not used.
    sizes = {"num_classes": 1, "image_size": image_size}
    classifier = construct(CLASSIFIERS, arguments.architecture, key="architecture", where="backbone", **sizes)
    return backbone_of(classifier, name=arguments.name)


def backbone_of(classifier: nn.Module, *, name: str) -> nn.Module:
    """Return the modules of `classifier`, of the architecture `name`, before its pooling; shared, not copied."""
    match classifier:
        case ConvolutionalClassifier():
            return classifier.body
        case ResNet18():
            return classifier.body
        case Pretrained():
            return _PretrainedBackbone(classifier)
    raise InputError(f"backbone: {name} has no feature map, which an autoencoder needs")


def map_shape(backbone: nn.Module, *, image_size: int) -> tuple[int, int]:
    """Return the channels and the side of a backbone's square feature map, measured on a blank image."""
    was_training = backbone.training
    device = next(backbone.parameters()).device
    with torch.no_grad():
        features = backbone.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    backbone.train(was_training)
    return features.shape[1], features.shape[2]


class _PretrainedBackbone(nn.Module):
    """The feature maps of a `Pretrained` classifier, which enlarges images and renormalises them."""

    def __init__(self, classifier: Pretrained) -> None:
        super().__init__()
        self.renormalise, self.network = classifier.renormalise, classifier.backbone

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.forward_features(self.renormalise(images))  # type: ignore[operator]
        return feature_map(self.network, features)
