"""Att2in: what is seen enters the LSTM's candidate alone, none of its gates."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from seesay.captioning.networks.attention import Glance, GridAttention, unroll
from seesay.captioning.networks.base import Captioner, Memory, Share, Size, State
from seesay.captioning.networks.layers import FeatureScale, Linear, Words


class Att2InCaptioner(Captioner):
    """Att2in of Rennie et al. (2017, "Self-critical sequence training") on a grid's features (N, L, D).

    The cell's candidate is a maxout of two: max(a, b) where tanh stands in an LSTM. Its first state is what the grid
    shows at a glance, where the paper starts from the image as a first word.
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
        self.hidden_size = hidden_size
        self.scale = FeatureScale(feature_size)
        self.grid = GridAttention(feature_size, value_size=hidden_size, attention_size=attention_size, dropout=dropout)
        self.words = Words(
            vocabulary_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            tie_weights=tie_weights,
        )
        self.from_words = Linear(embedding_size, 5 * hidden_size)  # three gates, two candidates
        self.sizes_from_hidden = (5 * hidden_size, attention_size)
        self.from_hidden = Linear(hidden_size, sum(self.sizes_from_hidden))
        self.first_state = Glance(feature_size, size=2 * hidden_size, dropout=dropout)
        self.from_seen = Linear(hidden_size, 2 * hidden_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.dropout(self._unroll(features, tokens)[0])
        return outputs

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
        output, _, state = self._advance(self.from_words(self.words.embed(tokens)), state, memory)
        return self.logits(self.dropout(output)), state

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self._unroll(features, tokens)[1]

    def _unroll(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.memory(features)
        return unroll(self._advance, self.from_words(self.words.embed(tokens)), self.initial_state(memory), memory)

    def _advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        hidden, cell = state
        size = self.hidden_size
        from_hidden, query = self.from_hidden(hidden).split(self.sizes_from_hidden, dim=2)
        seen, weights = self.grid.look(query, memory[0], memory[1])
        gates = gates + from_hidden
        take_in, keep, put_out = gates[..., : 3 * size].sigmoid().chunk(3, dim=2)
        candidate = torch.maximum(*(gates[..., 3 * size :] + self.from_seen(seen)).chunk(2, dim=2))
        cell = keep * cell + take_in * candidate
        hidden = put_out * cell.to(gates.dtype).tanh()
        return hidden, weights, (hidden, cell)
