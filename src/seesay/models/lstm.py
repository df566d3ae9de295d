"""An LSTM captioner: the image sets its first state, then each word predicts the next."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from seesay.models.captioner import Captioner, Memory, State
from seesay.models.feature_scale import FeatureScale
from seesay.models.special_tokens import PAD


class LSTMCaptioner(Captioner):
    """An LSTM on pooled features (N, D), which give its first hidden and cell state.

    Show and Tell (Vinyals et al. 2015) gives the image as a first word instead; with Flickr8k's 3,000 first training
    images and five epochs that had a validation perplexity of 39.6, the image beside every word 34.4, this 32.0.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]] = "pooled"

    def __init__(
        self,
        vocabulary_size: int,
        feature_size: int,
        *,
        embedding_size: Annotated[int, Field(ge=1)],
        hidden_size: Annotated[int, Field(ge=1)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)],
    ) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.scale = FeatureScale(feature_size)
        self.image = nn.Linear(feature_size, 2 * hidden_size)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, vocabulary_size)
        with torch.no_grad():
            self.embedding.weight.mul_(0.1)

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        hidden, cell = self.initial_state(self.memory(features))
        state = (hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous())
        outputs, _ = self.lstm(self.dropout(self.embedding(tokens)), state)
        taught: Tensor = self.dropout(outputs)
        return taught

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden)
        return logits

    def memory(self, features: Tensor) -> Memory:
        """Nothing but the first state: the image is looked at once."""
        return (self.image(self.dropout(self.scale(features))),)

    def initial_state(self, memory: Memory) -> State:
        """The state (hidden, cell), each (N, 1, hidden_size)."""
        hidden, cell = memory[0].unsqueeze(1).chunk(2, dim=2)
        return hidden.tanh(), cell

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        hidden, cell = (part.flatten(0, 1).unsqueeze(0).contiguous() for part in state)
        _, (hidden, cell) = self.lstm(self.embedding(tokens.flatten()).unsqueeze(1), (hidden, cell))
        hidden, cell = (part[0].view(*tokens.shape, -1) for part in (hidden, cell))
        return self.logits(hidden), (hidden, cell)
