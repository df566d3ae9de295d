"""An autoencoder whose encoder is a classifier's backbone: what does a network that classifies keep of an image?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from seesay.models.backbones import BackboneArguments, build_backbone, map_shape
from seesay.models.latent_autoencoder import LatentAutoencoder, within_range
from seesay.models.map_decoder import MapDecoder, check_widths


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
