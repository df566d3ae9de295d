"""How a captioner looks at a grid: at a glance, and place by place by additive attention, its keys computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seesay.captioning.networks.base import Memory, State
from seesay.captioning.networks.layers import Linear

IN_CACHE = 1_000_000
"""How many sums of a key's and a query's entries a CPU makes at a time where no gradient is asked for: those of a whole
batch's beams are tens of megabytes at each word, and to fetch them took a quarter of the time."""


class GridAttention(nn.Module):
    """Additive attention (Bahdanau et al. 2015) over a grid of L places.

    A place's features (D) become a value (V) by a linear layer and ReLU, and values are what is summed: a torchvision
    encoder's 1,280 or 2,048 features a place would cost several times as much at each word. A value becomes a key (A).
    A place's weight is the softmax over the grid of w . tanh(key + query). Dropout takes a value from all places of an
    image at once (Tompson et al. 2015): its neighbours know what one place loses, and single draws took a sixth of a
    training step.
    """

    def __init__(self, feature_size: int, *, value_size: int, attention_size: int, dropout: float) -> None:
        super().__init__()
        self.value = Linear(feature_size, value_size)
        self.key = Linear(value_size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)  # a bias would change no weight
        self.dropout = nn.Dropout(dropout)

    def prepare(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (N, L, A) and values (N, L, V) of `features` (N, L, D)."""
        values = self.value(features).relu()
        if self.training and self.dropout.p > 0.0:
            values = values * self.dropout(values.new_ones(len(values), 1, values.shape[2]))
        return self.key(values), values

    def look(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What B beams of each image see (N, B, V), and with which weights (N, B, L), for `query` (N, B, A)."""
        parts = _parts(query, keys)
        scores = torch.cat([self._scores(*part) for part in parts]) if len(parts) > 1 else self._scores(query, keys)
        weights = scores.float().softmax(dim=2)
        return torch.bmm(weights.to(values.dtype), values), weights

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        scores: Tensor = self.score((keys.unsqueeze(1) + query.unsqueeze(2)).tanh_()).squeeze(3)
        return scores


def _parts(query: Tensor, keys: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`query` and `keys` of as many images at a time as a cache holds the sums of."""
    if torch.is_grad_enabled() or keys.device.type != "cpu":
        return [(query, keys)]
    images = max(1, IN_CACHE // (query.shape[1] * keys.shape[1:].numel()))
    return list(zip(torch.split(query, images), torch.split(keys, images), strict=True))


class Glance(nn.Module):
    """What a grid (N, L, D) shows at once: its mean over the places, brought to unit variance, as (N, 1, `size`).

    A mean over places varies far less than the places, by which a grid's features are scaled: without the layer norm
    it takes epochs until the image is heard in it (on Flickr8k a validation perplexity of 60 after one epoch).
    """

    def __init__(self, feature_size: int, *, size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_size, elementwise_affine=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = Linear(feature_size, size)

    def forward(self, features: Tensor) -> Tensor:
        seen: Tensor = self.linear(self.dropout(self.norm(features.mean(dim=1, keepdim=True))))
        return seen


Advance = Callable[[Tensor, State, Memory], tuple[Tensor, Tensor, State]]
"""One word on: (what the words say to the gates (N, B, G), state, memory) -> (output (N, B, H), how much each place of
the grid is looked at (N, B, L), state)."""


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The next hidden and cell state (..., H), of summed gates (..., 4H) in the order input, forget, output, candidate.

    The hidden state is of the gates' precision, the cell state of its own: sums over many words stay float32.
    """
    size = cell.shape[-1]
    opened, candidate = gates[..., : 3 * size].sigmoid(), gates[..., 3 * size :].tanh()
    take_in, keep, put_out = opened.chunk(3, dim=-1)
    cell = (
        torch.addcmul(take_in * candidate, keep, cell)
        if cell.dtype == gates.dtype
        else keep * cell + take_in * candidate
    )
    return put_out * cell.to(gates.dtype).tanh(), cell


def unroll(advance: Advance, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
    """Outputs (N, T, H) and weights (N, T, L) of whole captions, for `gates` (N, T, G) of all their words."""
    outputs, weights = [], []
    for position in torch.split(gates, 1, dim=1):
        output, looked_at, state = advance(position, state, memory)
        outputs.append(output)
        weights.append(looked_at)
    return torch.cat(outputs, dim=1), torch.cat(weights, dim=1)
