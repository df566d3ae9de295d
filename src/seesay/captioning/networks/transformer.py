"""The transformer captioner: a pre-norm decoder that attends to a grid of features, with cached keys and values."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.networks.attention import GridMean
from seesay.captioning.networks.base import Captioner, Memory, Share, Size, State
from seesay.captioning.networks.layers import Dropout, FeatureScale, Linear, Words
from seesay.core.errors import InputError

WORD_SCALE = 3.0
"""Factor of word vectors, whose standard deviation is 0.1 at first, as in all captioners: so that positions and the
image, of 0.7 and 0.6, do not drown them. Tied vectors learn unsteadily with ten."""


class DecoderLayer(nn.Module):
    """Attention to the words so far, attention to the grid, and a feed-forward network; each after a layer norm and
    added to its input (Xiong et al. 2020).

    Sizes: hidden vectors of H entries, in `num_heads` heads of E = H / num_heads entries each.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.word_norm = nn.LayerNorm(hidden_size)
        self.word_parts = Linear(hidden_size, 3 * hidden_size)  # query, key, value
        self.from_words = Linear(hidden_size, hidden_size)
        self.grid_norm = nn.LayerNorm(hidden_size)
        self.grid_query = Linear(hidden_size, hidden_size)
        self.grid_parts = Linear(hidden_size, 2 * hidden_size)  # key, value
        self.from_grid = Linear(hidden_size, hidden_size)
        self.feed_norm = nn.LayerNorm(hidden_size)
        self.expand = Linear(hidden_size, 4 * hidden_size)
        self.contract = Linear(4 * hidden_size, hidden_size)
        self.dropout = Dropout(dropout)

    def prepare(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the grid's keys and values, each (N, heads, L, E), of `values` (N, L, H): once per image."""
        keys, contents = self._heads(self.grid_parts(values), 2).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        return keys, contents

    def forward(self, x: Tensor, grid: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the next layer's input (N, T, H) and the heads' mean attention to the grid (N, T, L), of whole
        captions `x` (N, T, H)."""
        query, keys, values = self._heads(self.word_parts(self.word_norm(x)), 3).permute(2, 0, 3, 1, 4).unbind(0)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        context, _ = attend(query, keys, values, hidden=later)
        x = x + self.dropout(self.from_words(context.transpose(1, 2).flatten(2)))
        return self._after_words(x, grid)

    def step(self, x: Tensor, cache: Tensor, grid: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `forward` does for one word of each of B captions `x` (N, B, H), and the next cache.

        `cache` (N, B, t, 2, heads, E) has the keys and values of the t words before.
        """
        query, *parts = self._heads(self.word_parts(self.word_norm(x)), 3).unbind(2)  # (N, B, heads, E)
        cache = torch.cat((cache, torch.stack(parts, dim=2).unsqueeze(2)), dim=2)
        keys, values = cache.flatten(0, 1).transpose(1, 3).unbind(2)  # (N * B, heads, t + 1, E)
        context, _ = attend(query.flatten(0, 1).unsqueeze(2), keys, values)
        x = x + self.dropout(self.from_words(context.view(x.shape)))
        x, weights = self._after_words(x, grid)
        return x, weights, cache

    def _after_words(self, x: Tensor, grid: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        keys, values = grid
        query = self._heads(self.grid_query(self.grid_norm(x)), 1).squeeze(2).transpose(1, 2)
        context, weights = attend(query, keys, values)
        x = x + self.dropout(self.from_grid(context.transpose(1, 2).flatten(2)))
        x = x + self.dropout(self.contract(self.dropout(F.gelu(self.expand(self.feed_norm(x))))))
        return x, weights.mean(dim=1)

    def _heads(self, x: Tensor, num_parts: int) -> Tensor:
        """Return `x` (N, T, parts * H) as (N, T, parts, heads, E)."""
        return x.view(*x.shape[:2], num_parts, self.num_heads, -1)


def attend(query: Tensor, keys: Tensor, values: Tensor, *, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the context (N, heads, T, E) of `query` (N, heads, T, E), and its attention (N, heads, T, L), float32.

    `keys` and `values` are (N, heads, L, E); a query does not attend where `hidden` (T, L) is true. At these lengths
    and in bfloat16, torch's fused attention takes seven times as long on a CPU.
    """
    scores = torch.matmul(query, keys.transpose(2, 3)).float() / math.sqrt(query.shape[3])
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    weights = scores.softmax(dim=3)
    return torch.matmul(weights.to(values.dtype), values), weights


class TransformerCaptioner(Captioner):
    """A transformer decoder (Vaswani et al. 2017) on a grid's features (N, L, D).

    A linear layer and ReLU turn the features of a position into its value, as in the other captioners with attention;
    every layer attends to these values. The grid's mean is added to each word's vector, and so is the word's place in
    the caption, by sines and cosines, which set no longest caption. The grid has no places: the features of a
    convolutional network already depend on the position, and captioners here do not read positions in an order.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]] = "grid"

    def __init__(
        self,
        vocabulary_size: int,
        feature_size: int,
        *,
        hidden_size: Size,
        num_layers: Size,
        num_heads: Size,
        dropout: Share = 0.0,
        embedding_dropout: Share = 0.0,
        tie_weights: bool = False,
    ) -> None:
        super().__init__()
        if hidden_size % num_heads or hidden_size % 2:
            raise InputError(f"hidden_size: got {hidden_size}: expected an even multiple of num_heads, {num_heads}")
        self.vocabulary_size = vocabulary_size
        self.hidden_size, self.num_heads = hidden_size, num_heads
        self.scale = FeatureScale(feature_size)
        self.value = Linear(feature_size, hidden_size)
        self.value_norm = nn.LayerNorm(hidden_size)
        self.image = GridMean(feature_size, size=hidden_size, dropout=dropout)
        self.words = Words(
            vocabulary_size,
            embedding_size=hidden_size,
            hidden_size=hidden_size,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            tie_weights=tie_weights,
        )
        self.layers = nn.ModuleList(DecoderLayer(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        with torch.no_grad():  # else tied vectors make each word its own likeliest successor at first
            self.norm.weight.fill_(hidden_size**-0.5)
        self.dropout = Dropout(dropout)

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        x, _ = self._read(features, tokens)
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        """Return keys and values of the grid for each layer, (N, heads, L, hidden_size / heads) each, and, last, the
        projection of its mean (N, 1, hidden_size)."""
        scaled = self.scale(features)
        values = self.value(scaled).relu()
        if self.training and self.dropout.p > 0.0:  # an entry of all positions at once, as in `GridAttention`
            values = values * self.dropout(values.new_ones(len(values), 1, values.shape[2]))
        values = self.value_norm(values)
        parts: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            parts += layer.prepare(values)
        return (*parts, self.image(scaled))

    def initial_state(self, memory: Memory) -> State:
        """Return an empty cache (N, 1, 0, 2, heads, hidden_size / heads) for each layer.

        Each step adds a word to the third dimension.
        """
        keys = memory[0]
        shape = (keys.shape[0], 1, 0, 2, self.num_heads, self.hidden_size // self.num_heads)
        return tuple(keys.new_empty(shape) for _ in self.layers)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        place = state[0].shape[2]
        x = self._embed(tokens, memory, positions=torch.arange(place, place + 1, device=tokens.device))
        caches = []
        for index, (layer, cache) in enumerate(zip(self.layers, state, strict=True)):
            assert isinstance(layer, DecoderLayer)
            x, _, longer = layer.step(x, cache, (memory[2 * index], memory[2 * index + 1]))
            caches.append(longer)
        return self.logits(self.norm(x)), tuple(caches)

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return the attention (N, T, L) of the last layer, the mean of its heads."""
        return self._read(features, tokens)[1]

    def _read(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last layer's output (N, T, hidden_size) and attention (N, T, L) of whole captions."""
        memory = self.memory(features)
        x = self._embed(tokens, memory, positions=torch.arange(tokens.shape[1], device=tokens.device))
        weights = x
        for index, layer in enumerate(self.layers):
            x, weights = layer(x, (memory[2 * index], memory[2 * index + 1]))
        return x, weights

    def _embed(self, tokens: Tensor, memory: Memory, *, positions: Tensor) -> Tensor:
        """Return the first layer's input (N, T, hidden_size), of tokens at `positions`, (T,) or one for all."""
        frequencies = torch.exp(
            torch.arange(0, self.hidden_size, 2, device=tokens.device) * (-math.log(10_000.0) / self.hidden_size)
        )
        angles = positions.unsqueeze(1) * frequencies
        return self.words.embed(tokens) * WORD_SCALE + torch.cat((angles.sin(), angles.cos()), dim=1) + memory[-1]
