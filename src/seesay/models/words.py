"""How words go into a captioner and come out of it: word vectors, and logits that may share their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seesay.models.linear import Linear, linear
from seesay.models.special_tokens import PAD

_VECTOR_STD = 0.1
"""Of a new word vector's entries: those of `nn.Embedding`, 1.0, would drown an image at first."""


class Words(nn.Module):
    """A vocabulary of V tokens as vectors of E entries, and hidden vectors of H entries as logits of those tokens.

    `embedding_dropout` is the chance that a position's whole word vector is zero in training, as if the word had not
    been heard (Gal & Ghahramani 2016, here per position); the others are divided by what is left. `dropout` is that of
    single entries, after it. With `tie_weights` a token's logit is the product of its own vector and the hidden one
    (Press & Wolf 2017), which a projection without bias brings to E entries where H differs; the vectors are then one
    parameter, under one name, and <pad> is zero as an input only at first: as an output it learns to be never said.
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
        self.dropout = nn.Dropout(dropout)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.head: Linear | None = None
        self.projection: Linear | None = None
        if tie_weights:
            self.bias = nn.Parameter(torch.zeros(vocabulary_size))
            if hidden_size != embedding_size:
                self.projection = Linear(hidden_size, embedding_size, bias=False)
        else:
            self.head = Linear(hidden_size, vocabulary_size)

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors (..., E) of `tokens` (...)."""
        vectors: Tensor = self.vectors(tokens)
        if self.training and self.embedding_dropout.p > 0.0:
            vectors = vectors * self.embedding_dropout(vectors.new_ones(*tokens.shape, 1))
        dropped: Tensor = self.dropout(vectors)
        return dropped

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of `hidden` (..., H)."""
        if self.head is not None:
            logits: Tensor = self.head(hidden)
            return logits
        if self.projection is not None:
            hidden = self.projection(hidden)
        return linear(hidden, self.vectors.weight, self.bias)
