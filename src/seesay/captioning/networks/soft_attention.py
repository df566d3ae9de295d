"""Show, Attend and Tell: before each word the LSTM looks at the grid, with what it remembers as its question."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from seesay.captioning.networks.attention import Glance, GridAttention, lstm_cell, unroll
from seesay.captioning.networks.base import Captioner, Memory, Share, Size, State
from seesay.captioning.networks.layers import FeatureScale, Linear, Words


class SoftAttentionCaptioner(Captioner):
    """The deterministic "soft" attention of Xu et al. (2015) on a grid's features (N, L, D).

    The first state comes from the grid's mean; what is seen is gated by the scalar beta; the word's vector, the hidden
    state and what is seen together are what logits are made of ("deep output", linear as in the paper's equation 7).
    Values are projected to `hidden_size` first (`GridAttention`), where the paper attends to the features themselves.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]] = "grid"

    def __init__(
        self,
        vocabulary_size: int,
        feature_size: int,
        *,
        embedding_size: Size,
        hidden_size: Size,
        attention_size: Size,
        dropout: Share = 0.0,
        embedding_dropout: Share = 0.0,
        tie_weights: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.scale = FeatureScale(feature_size)
        self.grid = GridAttention(feature_size, value_size=hidden_size, attention_size=attention_size, dropout=dropout)
        self.words = Words(
            vocabulary_size,
            embedding_size=embedding_size,
            hidden_size=embedding_size,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            tie_weights=tie_weights,
        )
        self.first_state = Glance(feature_size, size=2 * hidden_size, dropout=dropout)
        self.from_words = Linear(embedding_size, 4 * hidden_size)
        self.sizes_from_hidden = (4 * hidden_size, attention_size, 1)  # gates, query, beta
        self.from_hidden = Linear(hidden_size, sum(self.sizes_from_hidden))
        self.from_seen = Linear(hidden_size, 4 * hidden_size, bias=False)
        self.deep_output = Linear(2 * hidden_size, embedding_size)
        self.dropout = nn.Dropout(dropout)

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        memory, vectors = self.memory(features), self.words.embed(tokens)
        outputs, _ = unroll(self._advance, self.from_words(vectors), self.initial_state(memory), memory)
        return self._deep_output(vectors, outputs)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        """Keys (N, L, attention_size), values (N, L, hidden_size), the first state (N, 1, 2 * hidden_size)."""
        scaled = self.scale(features)
        return *self.grid.prepare(scaled), self.first_state(scaled)

    def initial_state(self, memory: Memory) -> State:
        """The state (hidden, cell), each (N, 1, hidden_size)."""
        hidden, cell = memory[2].chunk(2, dim=2)
        return hidden.tanh(), cell.float()

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        vectors = self.words.embed(tokens)
        output, _, state = self._advance(self.from_words(vectors), state, memory)
        return self.logits(self._deep_output(vectors, output)), state

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        memory = self.memory(features)
        gates = self.from_words(self.words.embed(tokens))
        return unroll(self._advance, gates, self.initial_state(memory), memory)[1]

    def _advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """The output is hidden state and what is seen, (N, B, 2 * hidden_size)."""
        hidden, cell = state
        gates_of_hidden, query, beta = self.from_hidden(hidden).split(self.sizes_from_hidden, dim=2)
        seen, weights = self.grid.look(query, memory[0], memory[1])
        seen = beta.sigmoid() * seen
        hidden, cell = lstm_cell(gates + gates_of_hidden + self.from_seen(seen), cell)
        return torch.cat((hidden, seen), dim=2), weights, (hidden, cell)

    def _deep_output(self, vectors: Tensor, outputs: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(vectors + self.deep_output(outputs))
        return hidden
