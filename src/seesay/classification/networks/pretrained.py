"""Transfer learning: timm's networks with published weights and a new head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from seesay.classification.networks.published import (
    Renormalise,
    build_published,
    layers_of,
    load_published,
    preprocessing_of,
    remove_head,
)
from seesay.core.errors import InputError

_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


class Pretrained(nn.Module):
    """A model of timm with a new linear head.

    Images are enlarged to `input_size` on their device and renormalised as the published weights expect (see
    `load_pretrained`). With `train_backbone` false only the head is trained (a linear probe). `freeze_batch_norms`
    keeps the norms' published statistics, which small batches of other images would degrade; their scales are trained.
    The first `frozen_layers` layers, as timm groups them, keep weights and statistics: the first ones see the largest
    maps and cost most to train, and change least.
    Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

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
        frozen_layers: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__()
        self.train_backbone = train_backbone
        self.freeze_batch_norms = freeze_batch_norms
        self.architecture = network
        self.backbone = remove_head(build_published(network))
        self.renormalise = Renormalise(input_size, preprocessing_of(self.backbone).interpolation)
        num_features = self.backbone.head_hidden_size
        assert isinstance(num_features, int)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))
        nn.init.normal_(self.head[1].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[1].bias)  # type: ignore[arg-type]
        self.backbone.requires_grad_(train_backbone)
        layers = layers_of(self.backbone)
        if frozen_layers and (not train_backbone or frozen_layers >= len(layers)):
            expected = f"less than {len(layers)}, the layers of {network}" if train_backbone else "none: all are frozen"
            raise InputError(f"frozen_layers: got {frozen_layers}: expected {expected}")
        for name in chain.from_iterable(layers[:frozen_layers]):
            self.backbone.get_parameter(name).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(self.renormalise(images)))
        return logits

    def train(self, mode: bool = True) -> Pretrained:
        super().train(mode)
        if not self.train_backbone:
            self.backbone.eval()
        else:
            for module in self.backbone.modules():
                is_frozen = self.freeze_batch_norms or not all(one.requires_grad for one in module.parameters())
                if isinstance(module, _NORMS) and is_frozen:
                    module.eval()
        return self

    def rate_scales(self, layer_decay: float) -> dict[str, float]:
        """Return each parameter's learning rate as a fraction of the head's (Howard and Ruder, 2018), by name.

        Each layer, as timm groups them, has `layer_decay` times the rate of the next; after the last comes the head.
        """
        layers = [*([f"backbone.{name}" for name in layer] for layer in layers_of(self.backbone)), []]
        return {name: layer_decay**depth for depth, layer in enumerate(reversed(layers)) for name in layer} | {
            name: 1.0 for name, _ in self.head.named_parameters(prefix="head")
        }


def load_pretrained(classifier: Pretrained, path: Path, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """Load the published weights in the state dict at `path` into the backbone.

    `mean` and `std` are those by which the input images are normalised; the network converts them to its own. Raises
    `InputError` for a file that is missing, unreadable or of another network.
    """
    published = load_published(classifier.architecture, path)
    expected = preprocessing_of(published)
    classifier.backbone.load_state_dict(remove_head(published).state_dict())
    classifier.renormalise.set_statistics((mean, std), (expected.mean, expected.std))
