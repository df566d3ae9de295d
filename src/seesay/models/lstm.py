"""An LSTM captioner: the image comes first, like a word, then each word predicts the next."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from seesay.models.captioner import Captioner, State
from seesay.models.feature_scale import FeatureScale
from seesay.models.special_tokens import PAD


class LSTMCaptioner(Captioner):
    """Show and Tell (Vinyals et al. 2015) on pooled features (N, D)."""

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
        self.image = nn.Sequential(nn.Linear(feature_size, embedding_size), nn.ReLU())
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, vocabulary_size)
        with torch.no_grad():
            self.embedding.weight.mul_(0.1)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, T, V) of what follows each of `tokens` (N, T), whose first is <bos>."""
        return self.logits(self.hidden(features, tokens))

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        """What `logits` turns into predictions, (N, T, hidden_size): a loss skips the head where there is padding."""
        image = self.image(self.scale(features)).unsqueeze(1)
        inputs = torch.cat([image, self.embedding(tokens)], dim=1)
        outputs, _ = self.lstm(self.dropout(inputs))
        taught: Tensor = self.dropout(outputs[:, 1:])
        return taught

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden)
        return logits

    def initial_state(self, features: Tensor) -> State:
        """The state (hidden, cell), each (N, hidden_size), after the image and before <bos>."""
        image = self.image(self.scale(features)).unsqueeze(1)
        _, (hidden, cell) = self.lstm(image)
        return hidden[0], cell[0]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (N, V) of what follows `tokens` (N,), and the state after them; in evaluation mode."""
        hidden, cell = state
        _, (hidden, cell) = self.lstm(
            self.embedding(tokens).unsqueeze(1), (hidden.unsqueeze(0).contiguous(), cell.unsqueeze(0).contiguous())
        )
        return self.logits(hidden[0]), (hidden[0], cell[0])
