"""What stands around a network so that it gives a pooled vector and the map before, which keeps places apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from seesay.captioning.features.small_cnn import SmallCnn
from seesay.classification.networks.pretrained import Pretrained
from seesay.core.errors import InputError


class _Largest(nn.Module):
    def forward(self, places: Tensor) -> Tensor:
        return places.amax(dim=(2, 3))


class _Mean(nn.Module):
    def forward(self, places: Tensor) -> Tensor:
        return places.mean(dim=(2, 3))


largest, mean_pool = _Largest(), _Mean()


class Pooled(nn.Module):
    """A map, and its pooled vector before it."""

    def __init__(self, body: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.body, self.pool = body, pool

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        places = self.body(images)
        return self.pool(places), places


class Adapted(nn.Module):
    """What `Pretrained` does to images before its backbone sees them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module, classifier: Pretrained) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_size = classifier.input_size
        self.register_buffer("scale", classifier.scale.clone())
        self.register_buffer("shift", classifier.shift.clone())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = images * self.scale + self.shift
        if images.shape[-1] != self.input_size:
            images = F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)
        pooled, places = self.backbone(images)
        return pooled, places


class Tiled(nn.Module):
    """A network without maps looks at each place as at an image of its own."""

    def __init__(self, network: SmallCnn, grid_size: int | None) -> None:
        super().__init__()
        self.network = network
        self.grid_size = grid_size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled: Tensor = self.network(images)
        if self.grid_size is None:
            return pooled, None
        size = self.grid_size
        side = -(-images.shape[-1] // size) * size  # the next multiple
        if images.shape[-1] != side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
        tiles = images.reshape(len(images), 3, size, side // size, size, side // size)  # (N, 3, row, y, column, x)
        seen: Tensor = self.network(tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
        return pooled, seen.reshape(len(images), size, size, -1).permute(0, 3, 1, 2)


PROBED_AT = 224
"""Pixels a side at which a network's last feature map is looked for: all networks take it, no map is a single place."""


def with_map(traced: nn.Module, dimensions: int, name: str) -> nn.Module:
    """The traced network, which returns what it returned and the map it pooled: the last one with several places."""
    assert isinstance(traced, fx.GraphModule)
    with torch.no_grad():
        ShapeProp(traced).propagate(torch.zeros(1, 3, PROBED_AT, PROBED_AT))
    found = None
    for node in traced.graph.nodes:
        shape = getattr(node.meta.get("tensor_meta"), "shape", ())
        kind = _kind_of_map(tuple(shape), dimensions)
        found = (node, kind) if kind else found
    if found is None:
        raise InputError(f"{name}: has no map of {dimensions} features before its pooled vector")
    node, kind = found
    output = next(node for node in traced.graph.nodes if node.op == "output")
    if kind == "tokens":
        with traced.graph.inserting_before(output):
            node = traced.graph.call_function(_tokens_to_map, (node,))
    output.args = ((output.args[0], node),)
    traced.recompile()
    return traced


def _kind_of_map(shape: tuple[int, ...], dimensions: int) -> str:
    """`map` for (1, D, h, w) with several places, `tokens` for a vision transformer's (1, 1 + h * h, D)."""
    if len(shape) == 4 and shape[1] == dimensions and shape[2] * shape[3] > 1:
        return "map"
    if len(shape) == 3 and shape[2] == dimensions and shape[1] > 2 and math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1:
        return "tokens"
    return ""


def _tokens_to_map(tokens: Tensor) -> Tensor:
    """(N, 1 + h * h, D), the class token first, to (N, D, h, h)."""
    side = math.isqrt(tokens.shape[1] - 1)
    places: Tensor = tokens[:, 1:].transpose(1, 2)
    return places.reshape(*places.shape[:2], side, side)
