"""Layers that all captioners share: word vectors and output logits, feature standardisation, faster linear layers and
dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.data.vocabulary import PAD

MIN_ROWS = 32
"""Rows from which oneDNN repays repacking the weights."""

_VECTOR_STD = 0.1  # of new word vectors: the 1.0 of `nn.Embedding` would drown the image at first
_MIN_STD_SHARE = 0.05  # of the mean standard deviation: a nearly constant feature is not amplified into noise
_VALUES_AT_ONCE = 4_000_000  # in float64: 32 MB


class Words(nn.Module):
    """Word vectors and output logits: V tokens as vectors of E entries, hidden vectors of H entries as V logits.

    `embedding_dropout` is the probability that a position's whole word vector is zero in training (Gal & Ghahramani
    2016, here per position); the others are scaled up. `dropout` of single entries comes after it. With `tie_weights` a
    token's logit is the product of its own vector and the hidden one (Press & Wolf 2017); where H differs from E, a
    projection without bias comes before. The vectors are then one parameter under one name. <pad> is a zero input only
    at first: as an output it learns to be never chosen.
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
        self.dropout = Dropout(dropout)
        self.embedding_dropout = Dropout(embedding_dropout)
        self.head: Linear | None = None
        self.projection: Linear | None = None
        if tie_weights:
            self.bias = nn.Parameter(torch.zeros(vocabulary_size))
            if hidden_size != embedding_size:
                self.projection = Linear(hidden_size, embedding_size, bias=False)
        else:
            self.head = Linear(hidden_size, vocabulary_size)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the vectors (..., E) of `tokens` (...)."""
        vectors: Tensor = self.vectors(tokens)
        if self.training and self.embedding_dropout.p > 0.0:
            vectors = vectors * self.embedding_dropout(vectors.new_ones(*tokens.shape, 1))
        dropped: Tensor = self.dropout(vectors)
        return dropped

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of `hidden` (..., H)."""
        if self.head is not None:
            logits: Tensor = self.head(hidden)
            return logits
        if self.projection is not None:
            hidden = self.projection(hidden)
        return linear(hidden, self.vectors.weight, self.bias)


class Dropout(nn.Module):
    """`torch.nn.Dropout`, with masks that take a tenth of the time on a CPU.

    There torch draws a float64 for each entry. Here a random byte decides, so the share `p` of zeros is rounded to a
    multiple of 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        num_dropped = min(round(256 * self.p), 255)  # of 256 values of a byte
        if num_dropped == 0:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= num_dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - num_dropped))


class FeatureScale(nn.Module):
    """Standardisation of features: subtracts the training features' mean, divides by their standard deviation.

    The identity until `measure` is called. Features are pooled (N, D) or a grid (N, L, D). Mean and standard deviation
    are buffers (D,), so that a checkpoint carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def measure(self, features: Tensor) -> None:
        """Set mean and standard deviation per dimension to those of `features` (N, D) or (N, L, D), N > 0.

        Sums are float64, part by part. Parts are merged by their means and sums of squared deviations (Chan et al.
        1983), which keeps all digits where a mean is large beside its deviation.
        """
        assert len(features) > 0
        features = features.cpu()
        num_dimensions = features.shape[-1]
        count = 0
        mean, squares = (torch.zeros(num_dimensions, dtype=torch.float64) for _ in range(2))
        for rows in torch.split(features, max(1, _VALUES_AT_ONCE // features[0].numel())):
            part = rows.reshape(-1, num_dimensions).double()
            part_variance, part_mean = torch.var_mean(part, dim=0, correction=0)
            before, count = count, count + len(part)
            difference = part_mean - mean
            mean += difference * (len(part) / count)
            squares += part_variance * len(part) + difference.square() * (before * len(part) / count)
        std = (squares / count).sqrt()
        min_std = (_MIN_STD_SHARE * std.mean()).clamp_min(1e-6)
        self.mean.copy_(mean)
        self.std.copy_(torch.maximum(std, min_std))

    def forward(self, features: Tensor) -> Tensor:
        """Return the standardised features, float32, in the shape of `features`, which may be float16 as stored."""
        # Converted first and divided in place: a batch of grids is 32 MB, and operands of two types are slow.
        return torch.sub(features.float(), self.mean).div_(self.std)


class Linear(nn.Linear):
    """`torch.nn.Linear` whose product goes through oneDNN where `linear` does."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear`: (..., H) of `x` (..., D), `weight` (H, D), `bias` (H,) if any.

    Without gradients, in float32 on a CPU, many rows go through oneDNN, as torch's convolutions and LSTMs do. torch
    leaves linear layers to MKL, which uses half of what an AMD core can do. Results differ in the last bits of float32.
    """
    if not _uses_onednn(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1]).to_mkldnn()
    product: Tensor = F.linear(rows, weight.to_mkldnn(), None if bias is None else bias.to_mkldnn()).to_dense()
    return product.view(*x.shape[:-1], len(weight))


def _uses_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= MIN_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    )
