"""Top-down attention: one LSTM decides where to look, a second says the word."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from seesay.captioning.networks.attention import Glance, GridAttention, lstm_cell, unroll
from seesay.captioning.networks.base import Captioner, Memory, Share, Size, State
from seesay.captioning.networks.layers import FeatureScale, Linear, Words


class UpDownCaptioner(Captioner):
    """The top-down half of Anderson et al. (2018), with a grid's features (N, L, D) in place of detected regions.

    The attention LSTM sees the word, the grid's mean and the language LSTM's last output; its own output is the
    question. The language LSTM sees that output and what was looked at. The first starts from zero, the second from
    what the grid shows at a glance (in the paper from zero too).
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
        self.from_words = Linear(embedding_size, 4 * hidden_size)
        self.from_mean = Glance(feature_size, size=4 * hidden_size, dropout=dropout)
        self.first_state = Glance(feature_size, size=2 * hidden_size, dropout=dropout)
        self.attention_lstm = Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.query = Linear(hidden_size, attention_size, bias=False)
        self.language_lstm = Linear(3 * hidden_size, 4 * hidden_size)
        self.dropout = nn.Dropout(dropout)

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.dropout(self._unroll(features, tokens)[0])
        return outputs

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        """Keys (N, L, attention_size), values (N, L, hidden_size), the mean's part of the attention LSTM's gates
        (N, 1, 4 * hidden_size), the language LSTM's first state (N, 1, 2 * hidden_size)."""
        scaled = self.scale(features)
        return *self.grid.prepare(scaled), self.from_mean(scaled), self.first_state(scaled)

    def initial_state(self, memory: Memory) -> State:
        """The states (hidden, cell) of the attention LSTM, then of the language LSTM, each (N, 1, hidden_size)."""
        saying, saying_cell = memory[3].chunk(2, dim=2)
        looking = saying.new_zeros(saying.shape)
        return looking, looking.float(), saying.tanh(), saying_cell.float()

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        output, _, state = self._advance(self.from_words(self.words.embed(tokens)) + memory[2], state, memory)
        return self.logits(self.dropout(output)), state

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self._unroll(features, tokens)[1]

    def _unroll(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.memory(features)
        gates = self.from_words(self.words.embed(tokens)) + memory[2]
        return unroll(self._advance, gates, self.initial_state(memory), memory)

    def _advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        looking, looking_cell, saying, saying_cell = state
        gates = gates + self.attention_lstm(torch.cat((saying, looking), dim=2))
        looking, looking_cell = lstm_cell(gates, looking_cell)
        seen, weights = self.grid.look(self.query(looking), memory[0], memory[1])
        saying, saying_cell = lstm_cell(self.language_lstm(torch.cat((seen, looking, saying), dim=2)), saying_cell)
        return saying, weights, (looking, looking_cell, saying, saying_cell)
