"""The Att2in captioner: the context enters the candidate of the LSTM, and none of its gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seesay.captioning.networks.attention import AttentionCaptioner, GridAttention, GridMean
from seesay.captioning.networks.base import Memory, Share, Size, State
from seesay.captioning.networks.layers import FeatureScale, Linear, Words


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
        self.dropout = nn.Dropout(dropout)

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
