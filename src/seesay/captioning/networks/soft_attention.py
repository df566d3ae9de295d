"""The captioner of Show, Attend and Tell: one LSTM, whose hidden state is the query of its attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seesay.captioning.networks.attention import AttentionCaptioner, GridAttention, GridMean, lstm_cell
from seesay.captioning.networks.base import Memory, Share, Size, State
from seesay.captioning.networks.layers import FeatureScale, Linear, Words


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
        self.dropout = nn.Dropout(dropout)

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
