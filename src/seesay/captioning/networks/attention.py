"""The shared part of LSTM captioners that attend to a grid of features before each word, and what it is built of."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from seesay.captioning.networks.base import Captioner, Memory, State
from seesay.captioning.networks.layers import Dropout, Linear, Words

MAX_SUMS_AT_ONCE = 1_000_000
"""Sums of a key's and a query's entries that a CPU computes at a time without gradients. Those of all beams of a batch
are tens of megabytes at each word: reading them from outside the cache took a quarter of the time."""

Advance = Callable[[Tensor, State, Memory], tuple[Tensor, Tensor, State]]
"""One step of a recurrence: (the words' part of the gates (N, B, G), state, memory) -> (output (N, B, H), attention
weights (N, B, L), next state)."""


class GridAttention(nn.Module):
    """Additive attention (Bahdanau et al. 2015) over a grid of L positions.

    A linear layer and ReLU turn the features (D) of a position into its value (V). Attention sums values, not features:
    with the 1,280 or 2,048 features of torchvision encoders each word would cost several times as much. A linear layer
    turns a value into its key (A). The weight of a position is the softmax over the grid of w . tanh(key + query).
    Dropout removes a value's entry from all positions of an image at once (Tompson et al. 2015): neighbouring positions
    repeat what one loses, and a mask per position took a sixth of a training step.
    """

    def __init__(self, feature_size: int, *, value_size: int, attention_size: int, dropout: float) -> None:
        super().__init__()
        self.value = Linear(feature_size, value_size)
        self.key = Linear(value_size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)  # a bias would change no weight
        self.dropout = Dropout(dropout)

    def prepare(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (N, L, A) and values (N, L, V) of `features` (N, L, D): once per image."""
        values = self.value(features).relu()
        if self.training and self.dropout.p > 0.0:
            values = values * self.dropout(values.new_ones(len(values), 1, values.shape[2]))
        return self.key(values), values

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return contexts (N, B, V) and attention weights (N, B, L) of B beams per image, for `query` (N, B, A)."""
        parts = _split_by_image(query, keys)
        scores = torch.cat([self._scores(*part) for part in parts]) if len(parts) > 1 else self._scores(query, keys)
        weights = scores.float().softmax(dim=2)
        return torch.bmm(weights.to(values.dtype), values), weights

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        scores: Tensor = self.score((keys.unsqueeze(1) + query.unsqueeze(2)).tanh_()).squeeze(3)
        return scores


def _split_by_image(query: Tensor, keys: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Split `query` and `keys` into parts of at most `MAX_SUMS_AT_ONCE` sums, on a CPU without gradients."""
    if torch.is_grad_enabled() or keys.device.type != "cpu":
        return [(query, keys)]
    num_images = max(1, MAX_SUMS_AT_ONCE // (query.shape[1] * keys.shape[1:].numel()))
    return list(zip(torch.split(query, num_images), torch.split(keys, num_images), strict=True))


class GridMean(nn.Module):
    """A projection (N, 1, `size`) of a grid's mean over its positions (N, L, D), brought to unit variance.

    The mean varies far less than the positions, by which features are scaled. Without the layer norm the captioner
    takes epochs to use the image (on Flickr8k, validation perplexity 60 after one epoch).
    """

    def __init__(self, feature_size: int, *, size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_size, elementwise_affine=False)
        self.dropout = Dropout(dropout)
        self.linear = Linear(feature_size, size)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.linear(self.dropout(self.norm(features.mean(dim=1, keepdim=True))))
        return projected


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next hidden and cell state (..., H) of summed gates (..., 4H): input, forget, output, candidate.

    The hidden state has the precision of `gates`. The cell state has its own: it sums over many words in float32.
    """
    size = cell.shape[-1]
    opened, candidate = gates[..., : 3 * size].sigmoid(), gates[..., 3 * size :].tanh()
    input_gate, forget_gate, output_gate = opened.chunk(3, dim=-1)
    cell = (
        torch.addcmul(input_gate * candidate, forget_gate, cell)
        if cell.dtype == gates.dtype
        else forget_gate * cell + input_gate * candidate
    )
    return output_gate * cell.to(gates.dtype).tanh(), cell


def unroll(advance: Advance, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
    """Return outputs (N, T, H) and attention weights (N, T, L) of whole captions, of the words' gates (N, T, G)."""
    outputs, weights = [], []
    for word_gates in torch.split(gates, 1, dim=1):
        output, word_weights, state = advance(word_gates, state, memory)
        outputs.append(output)
        weights.append(word_weights)
    return torch.cat(outputs, dim=1), torch.cat(weights, dim=1)


class AttentionCaptioner(Captioner):
    """A captioner on a grid's features (N, L, D): an LSTM attends to the grid at each word.

    A subclass builds the layers annotated here and those of its own, in the order that decides its initial weights. It
    gives `advance`, one step of the recurrence, and `input_gates` and `output` where they differ from those here.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]] = "grid"
    grid: GridAttention
    words: Words
    from_words: Linear
    first_state: GridMean
    dropout: Dropout

    def advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """Return the output (N, B, H), the attention weights (N, B, L) and the next state.

        `gates` (N, B, G) is the words' part of the LSTM's gates.
        """
        raise NotImplementedError

    def input_gates(self, vectors: Tensor, memory: Memory) -> Tensor:
        """Return the words' part of the LSTM's gates (N, T, G), of word vectors (N, T, E)."""
        gates: Tensor = self.from_words(vectors)
        return gates

    def output(self, vectors: Tensor, outputs: Tensor) -> Tensor:
        """Return the inputs of `logits`, of word vectors (N, T, E) and the outputs of `advance` (N, T, H)."""
        hidden: Tensor = self.dropout(outputs)
        return hidden

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        memory = self.memory(features)
        vectors = self.words.embed(tokens)
        outputs, _ = self._unroll(vectors, memory)
        return self.output(vectors, outputs)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        """Return keys (N, L, attention_size), values (N, L, hidden_size) and, last, the first state
        (N, 1, 2 * hidden_size)."""
        scaled = self.scale(features)
        return *self.grid.prepare(scaled), self.first_state(scaled)

    def initial_state(self, memory: Memory) -> State:
        """Return the state (hidden, cell), each (N, 1, hidden_size)."""
        hidden, cell = memory[-1].chunk(2, dim=2)
        return hidden.tanh(), cell.float()

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        vectors = self.words.embed(tokens)
        output, _, state = self.advance(self.input_gates(vectors, memory), state, memory)
        return self.logits(self.output(vectors, output)), state

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        memory = self.memory(features)
        return self._unroll(self.words.embed(tokens), memory)[1]

    def _unroll(self, vectors: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return unroll(self.advance, self.input_gates(vectors, memory), self.initial_state(memory), memory)
