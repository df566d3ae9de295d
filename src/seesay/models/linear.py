"""Linear layers as fast as a CPU can when many rows are decoded in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_ROWS = 32
"""Fewer are not worth handing the weights over."""


class Linear(nn.Linear):
    """`torch.nn.Linear`, its product by oneDNN where `linear` says so."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear`: (..., H) of `x` (..., D), `weight` (H, D), `bias` (H,) if any.

    Without gradients, in float32 on a CPU, many rows go through oneDNN, as convolutions and LSTMs there do by
    themselves. torch leaves linear layers to MKL, which uses half of what an AMD core can. Results differ in the last
    bits of float32.
    """
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1]).to_mkldnn()
    product: Tensor = F.linear(rows, weight.to_mkldnn(), None if bias is None else bias.to_mkldnn()).to_dense()
    return product.view(*x.shape[:-1], len(weight))


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= MIN_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    )
