"""Transfer learning: torchvision networks with published weights and a new head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from seesay.classification.networks.torchvision_weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    find_head,
    read_torchvision_weights,
)
from seesay.core.errors import InputError

_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


class Pretrained(nn.Module):
    """A torchvision classification network that pools globally before a linear head, with a new head.

    Images are enlarged to `input_size` on their device and renormalised as the published weights expect (see
    `load_pretrained`). With `train_backbone` false only the head is trained (a linear probe). `freeze_batch_norms`
    keeps the norms' published statistics, which small batches of other images would degrade; their scales are trained.
    Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        network: str,
        input_size: Annotated[int, Field(ge=32)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        train_backbone: bool,
        freeze_batch_norms: bool = False,
    ) -> None:
        import torchvision  # slow import that few stages need

        super().__init__()
        allowed = torchvision.models.list_models(module=torchvision.models)
        if network not in allowed:
            raise InputError(f"network: got {network!r}: expected one of {', '.join(allowed)}")
        self.input_size = input_size
        self.train_backbone = train_backbone
        self.freeze_batch_norms = freeze_batch_norms
        self.architecture = network
        self.backbone = torchvision.models.get_model(network, weights=None)
        name, head, linear = find_head(self.backbone, network)
        # Layers before the linear one stay, except dropout, which is part of the new head.
        before = [layer for layer in head[: head.index(linear)] if not isinstance(layer, nn.Dropout)]
        setattr(self.backbone, name, nn.Sequential(*before))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(linear.in_features, num_classes))
        nn.init.normal_(self.head[1].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[1].bias)  # type: ignore[arg-type]
        self.backbone.requires_grad_(train_backbone)
        self.register_buffer("scale", torch.ones(3, 1, 1))
        self.register_buffer("shift", torch.zeros(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        images = images * self.scale + self.shift
        if images.shape[-1] != self.input_size:
            images = F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def train(self, mode: bool = True) -> Pretrained:
        super().train(mode)
        if not self.train_backbone:
            self.backbone.eval()
        elif self.freeze_batch_norms:
            for module in self.backbone.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        return self

    def rate_scales(self, layer_decay: float) -> dict[str, float]:
        """Return each parameter's learning rate as a fraction of the head's (Howard and Ruder, 2018), by name.

        Each block has `layer_decay` times the rate of the next. A block is a direct child of the network, or of its
        `features` if it has those.
        """
        children = list(self.backbone.named_children())
        blocks = [
            f"backbone.{name}.{inner}" if name == "features" else f"backbone.{name}"
            for name, child in children
            for inner in ([n for n, _ in child.named_children()] if name == "features" else [""])
        ]
        scales: dict[str, float] = {}
        for name, _ in self.named_parameters():
            block = next((index for index, prefix in enumerate(blocks) if name.startswith(f"{prefix}.")), len(blocks))
            scales[name] = layer_decay ** (len(blocks) - block)
        return scales


def load_pretrained(classifier: Pretrained, path: Path, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """Load the published weights in the state dict at `path` into the backbone.

    `mean` and `std` are those by which the input images are normalised; the network converts them to ImageNet's. Raises
    `InputError` for a file that is missing, unreadable or of another network.
    """
    import torchvision

    network = torchvision.models.get_model(classifier.architecture, weights=None)
    read_torchvision_weights(network, path, classifier.architecture)
    published = network.state_dict()
    backbone = classifier.backbone.state_dict()
    classifier.backbone.load_state_dict({name: published[name] for name in backbone})
    ours, theirs = torch.tensor([mean, std]), torch.tensor([IMAGENET_MEAN, IMAGENET_STD])
    classifier.scale.copy_((ours[1] / theirs[1]).view(3, 1, 1))
    classifier.shift.copy_(((ours[0] - theirs[0]) / theirs[1]).view(3, 1, 1))
