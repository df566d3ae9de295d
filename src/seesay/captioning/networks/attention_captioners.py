"""Captioners with attention to a grid: soft attention, att2in, and bottom-up and top-down attention."""

from __future__ import annotations

import torch
from torch import Tensor

from seesay.captioning.networks.attention import AttentionCaptioner, GridAttention, GridMean, lstm_cell
from seesay.captioning.networks.base import Memory, Share, Size, State
from seesay.captioning.networks.layers import Dropout, FeatureScale, Linear, Words


class SoftAttentionCaptioner(AttentionCaptioner):
    """The deterministic "soft" attention of Xu et al. (2015) on a grid's features (N, L, D).

    The grid's mean gives the first state. A scalar gate, beta, scales the context. Logits come from the word's vector,
    the hidden state and the context together ("deep output", linear as in equation 7 of the paper). Values are
    projected to `hidden_size` first (`GridAttention`); the paper attends to the features themselves.
    """

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
        self.first_state = GridMean(feature_size, size=2 * hidden_size, dropout=dropout)
        self.from_words = Linear(embedding_size, 4 * hidden_size)
        self.sizes_from_hidden = (4 * hidden_size, attention_size, 1)  # gates, query, beta
        self.from_hidden = Linear(hidden_size, sum(self.sizes_from_hidden))
        self.from_seen = Linear(hidden_size, 4 * hidden_size, bias=False)
        self.deep_output = Linear(2 * hidden_size, embedding_size)
        self.dropout = Dropout(dropout)

    def advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """The output is the hidden state and the context, (N, B, 2 * hidden_size)."""
        hidden, cell = state
        gates_of_hidden, query, beta = self.from_hidden(hidden).split(self.sizes_from_hidden, dim=2)
        context, weights = self.grid.attend(query, memory[0], memory[1])
        context = beta.sigmoid() * context
        hidden, cell = lstm_cell(gates + gates_of_hidden + self.from_seen(context), cell)
        return torch.cat((hidden, context), dim=2), weights, (hidden, cell)

    def output(self, vectors: Tensor, outputs: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(vectors + self.deep_output(outputs))
        return hidden


class Att2InCaptioner(AttentionCaptioner):
    """Att2in of Rennie et al. (2017, "Self-critical sequence training") on a grid's features (N, L, D).

    The candidate is a maxout of two, max(a, b), in place of an LSTM's tanh. The grid's mean gives the first state; the
    paper starts from the image as a first word.
    """

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
        self.sizes_from_hidden = (5 * hidden_size, attention_size)  # gates and candidates, query
        self.from_hidden = Linear(hidden_size, sum(self.sizes_from_hidden))
        self.first_state = GridMean(feature_size, size=2 * hidden_size, dropout=dropout)
        self.from_seen = Linear(hidden_size, 2 * hidden_size, bias=False)
        self.dropout = Dropout(dropout)

    def advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        hidden, cell = state
        size = self.hidden_size
        gates_of_hidden, query = self.from_hidden(hidden).split(self.sizes_from_hidden, dim=2)
        context, weights = self.grid.attend(query, memory[0], memory[1])
        gates = gates + gates_of_hidden
        input_gate, forget_gate, output_gate = gates[..., : 3 * size].sigmoid().chunk(3, dim=2)
        candidate = torch.maximum(*(gates[..., 3 * size :] + self.from_seen(context)).chunk(2, dim=2))
        cell = forget_gate * cell + input_gate * candidate
        hidden = output_gate * cell.to(gates.dtype).tanh()
        return hidden, weights, (hidden, cell)


class UpDownCaptioner(AttentionCaptioner):
    """The top-down half of Anderson et al. (2018), on a grid's features (N, L, D) in place of detected regions.

    The attention LSTM reads the word, the grid's mean and the language LSTM's last output; its own output is the query.
    The language LSTM reads that output and the context. The attention LSTM starts from zero and the language LSTM from
    the grid's mean; in the paper both start from zero.
    """

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
            hidden_size=hidden_size,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            tie_weights=tie_weights,
        )
        self.from_words = Linear(embedding_size, 4 * hidden_size)
        self.from_mean = GridMean(feature_size, size=4 * hidden_size, dropout=dropout)
        self.first_state = GridMean(feature_size, size=2 * hidden_size, dropout=dropout)
        self.attention_lstm = Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.query = Linear(hidden_size, attention_size, bias=False)
        self.language_lstm = Linear(3 * hidden_size, 4 * hidden_size)
        self.dropout = Dropout(dropout)

    def memory(self, features: Tensor) -> Memory:
        """Return keys (N, L, attention_size), values (N, L, hidden_size), the grid mean's part of the attention LSTM's
        gates (N, 1, 4 * hidden_size), and the language LSTM's first state (N, 1, 2 * hidden_size)."""
        scaled = self.scale(features)
        return *self.grid.prepare(scaled), self.from_mean(scaled), self.first_state(scaled)

    def initial_state(self, memory: Memory) -> State:
        """Return (hidden, cell) of the attention LSTM, then of the language LSTM, each (N, 1, hidden_size)."""
        hidden, cell = super().initial_state(memory)
        zeros = hidden.new_zeros(hidden.shape)
        return zeros, zeros.float(), hidden, cell

    def input_gates(self, vectors: Tensor, memory: Memory) -> Tensor:
        return super().input_gates(vectors, memory) + memory[2]

    def advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        query, query_cell, language, language_cell = state
        gates = gates + self.attention_lstm(torch.cat((language, query), dim=2))
        query, query_cell = lstm_cell(gates, query_cell)
        context, weights = self.grid.attend(self.query(query), memory[0], memory[1])
        gates = self.language_lstm(torch.cat((context, query, language), dim=2))
        language, language_cell = lstm_cell(gates, language_cell)
        return language, weights, (query, query_cell, language, language_cell)
