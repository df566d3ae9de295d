"""ResNet-18 with a stem for small images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

_LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class ResNet18(nn.Module):
    """torchvision's ResNet-18 (He et al., 2016) whose stem is one 3x3 convolution of stride `stem_stride`, no pooling.

    The original stem reduces each side to a quarter before the first block, which suits 224 pixels but not 64.
    Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        stem_stride: Annotated[int, Field(ge=1, le=4)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        from torchvision.models.resnet import BasicBlock, ResNet  # slow import that few stages need

        super().__init__()
        network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        network.conv1 = nn.Conv2d(3, 64, 3, stride=stem_stride, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
        network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(network.fc.in_features, num_classes))
        self.network = network

    @property
    def body(self) -> nn.Module:
        """The layers before pooling: images to feature maps (N, 512, h, w)."""
        return nn.Sequential(*(getattr(self.network, layer) for layer in _LAYERS))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits
