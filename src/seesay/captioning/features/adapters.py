"""Adapters returning the pooled vector and the last feature map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from seesay.captioning.features.small_cnn import SmallCnn
from seesay.classification.networks.pretrained import Pretrained
from seesay.core.errors import InputError

PROBE_SIZE = 224
"""Pixels per side of the image with which `with_feature_map` looks for the last feature map.

All networks accept it, and it leaves no map with a single position.
"""


class _MaxPool(nn.Module):
    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.amax(dim=(2, 3))


class _MeanPool(nn.Module):
    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.mean(dim=(2, 3))


max_pool, mean_pool = _MaxPool(), _MeanPool()


class BodyAdapter(nn.Module):
    """An adapter of a `body` that returns a feature map, which `pool` turns into the pooled vector."""

    def __init__(self, body: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.body, self.pool = body, pool

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature_map = self.body(images)
        return self.pool(feature_map), feature_map


class PretrainedAdapter(nn.Module):
    """An adapter of a `Pretrained` classifier: its preprocessing, then `backbone`, itself adapted."""

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
        pooled, feature_map = self.backbone(images)
        return pooled, feature_map


class TiledAdapter(nn.Module):
    """An adapter of a network without feature maps: each of `grid_size` x `grid_size` tiles is an image of its own."""

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
        features: Tensor = self.network(tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
        return pooled, features.reshape(len(images), size, size, -1).permute(0, 3, 1, 2)


def with_feature_map(traced: nn.Module, dimensions: int, name: str) -> nn.Module:
    """Make the `traced` network return its output and the feature map that it pools; return that network.

    The map is the last one of `dimensions` features with several positions. Raises `InputError`, naming `name`, if
    there is none.
    """
    assert isinstance(traced, fx.GraphModule)
    with torch.no_grad():
        ShapeProp(traced).propagate(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE))
    last = None
    for node in traced.graph.nodes:
        shape = getattr(node.meta.get("tensor_meta"), "shape", ())
        kind = _map_kind(tuple(shape), dimensions)
        last = (node, kind) if kind else last
    if last is None:
        raise InputError(f"{name}: has no map of {dimensions} features before its pooled vector")
    node, kind = last
    output = next(node for node in traced.graph.nodes if node.op == "output")
    if kind == "tokens":
        with traced.graph.inserting_before(output):
            node = traced.graph.call_function(_tokens_to_map, (node,))
    output.args = ((output.args[0], node),)
    traced.recompile()
    return traced


def _map_kind(shape: tuple[int, ...], dimensions: int) -> str:
    """Return `map` for (1, D, h, w) with several positions, `tokens` for a vision transformer's (1, 1 + h * h, D).

    Any other shape gives "".
    """
    if len(shape) == 4 and shape[1] == dimensions and shape[2] * shape[3] > 1:
        return "map"
    if len(shape) == 3 and shape[2] == dimensions and shape[1] > 2 and math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1:
        return "tokens"
    return ""


def _tokens_to_map(tokens: Tensor) -> Tensor:
    """Reshape (N, 1 + h * h, D), the class token first, to (N, D, h, h)."""
    side = math.isqrt(tokens.shape[1] - 1)
    channels_first: Tensor = tokens[:, 1:].transpose(1, 2)
    return channels_first.reshape(*channels_first.shape[:2], side, side)
