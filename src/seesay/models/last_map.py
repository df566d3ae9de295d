"""Where in a network the last feature map is: what it pools to the one vector that its head sees."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from seesay.errors import InputError

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
