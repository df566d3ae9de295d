"""How words go into a captioner and come out of it: word vectors, and logits that may share their weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.data.vocabulary import PAD

_VECTOR_STD = 0.1
"""Of a new word vector's entries: those of `nn.Embedding`, 1.0, would drown an image at first."""


class Words(nn.Module):
    """A vocabulary of V tokens as vectors of E entries, and hidden vectors of H entries as logits of those tokens.

    `embedding_dropout` is the chance that a position's whole word vector is zero in training, as if the word had not
    been heard (Gal & Ghahramani 2016, here per position); the others are divided by what is left. `dropout` is that of
    single entries, after it. With `tie_weights` a token's logit is the product of its own vector and the hidden one
    (Press & Wolf 2017), which a projection without bias brings to E entries where H differs; the vectors are then one
    parameter, under one name, and <pad> is zero as an input only at first: as an output it learns to be never said.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        embedding_dropout: float,
        tie_weights: bool,
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vocabulary_size, embedding_size, padding_idx=PAD)
        with torch.no_grad():
            self.vectors.weight.mul_(_VECTOR_STD)
        self.dropout = nn.Dropout(dropout)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.head: Linear | None = None
        self.projection: Linear | None = None
        if tie_weights:
            self.bias = nn.Parameter(torch.zeros(vocabulary_size))
            if hidden_size != embedding_size:
                self.projection = Linear(hidden_size, embedding_size, bias=False)
        else:
            self.head = Linear(hidden_size, vocabulary_size)

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors (..., E) of `tokens` (...)."""
        vectors: Tensor = self.vectors(tokens)
        if self.training and self.embedding_dropout.p > 0.0:
            vectors = vectors * self.embedding_dropout(vectors.new_ones(*tokens.shape, 1))
        dropped: Tensor = self.dropout(vectors)
        return dropped

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of `hidden` (..., H)."""
        if self.head is not None:
            logits: Tensor = self.head(hidden)
            return logits
        if self.projection is not None:
            hidden = self.projection(hidden)
        return linear(hidden, self.vectors.weight, self.bias)


_LEAST_STD = 0.05  # of the mean one: a feature that hardly ever moves is not blown up into noise
_VALUES_AT_ONCE = 4_000_000  # in float64: 32 MB


class FeatureScale(nn.Module):
    """Subtracts the training features' mean and divides by their standard deviation; does nothing until told them.

    Features are pooled ones (N, D) or a grid's (N, L, D). Both are buffers (D,), so that a checkpoint carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def measure(self, features: Tensor) -> None:
        """Takes mean and standard deviation, per dimension, of `features` (N, D) or (N, L, D)."""
        self.measure_rows(features.cpu().numpy(), np.arange(len(features)))

    def measure_rows(self, array: np.ndarray, rows: np.ndarray) -> None:
        """As `measure`, of `array[rows]`, which may be a memory map: read in parts, summed in float64.

        Parts are merged by their means and sums of squared deviations (Chan et al. 1983), which loses no digits where
        a mean is large beside its deviation. `rows` is not empty.
        """
        assert len(rows) > 0
        num_dimensions = array.shape[-1]
        count = 0
        mean, squares = (torch.zeros(num_dimensions, dtype=torch.float64) for _ in range(2))
        num_at_once = max(1, _VALUES_AT_ONCE // int(np.prod(array.shape[1:])))
        for start in range(0, len(rows), num_at_once):
            part = torch.from_numpy(array[rows[start : start + num_at_once]]).reshape(-1, num_dimensions).double()
            part_variance, part_mean = torch.var_mean(part, dim=0, correction=0)
            before, count = count, count + len(part)
            difference = part_mean - mean
            mean += difference * (len(part) / count)
            squares += part_variance * len(part) + difference.square() * (before * len(part) / count)
        std = (squares / count).sqrt()
        floor = (_LEAST_STD * std.mean()).clamp_min(1e-6)
        self.mean.copy_(mean)
        self.std.copy_(torch.maximum(std, floor))

    def forward(self, features: Tensor) -> Tensor:
        """Of the features' shape, float32: float16 ones, as they are stored, may come as they are."""
        # Converted first and divided in place: a batch of grids is 32 MB, and operands of two kinds go one by one.
        return torch.sub(features.float(), self.mean).div_(self.std)


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
