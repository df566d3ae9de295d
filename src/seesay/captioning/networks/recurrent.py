"""Captioners on pooled features: one LSTM or GRU, which gets the image before the words."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from seesay.captioning.networks.base import Captioner, ImageEnters, Memory, Share, Size, State
from seesay.captioning.networks.layers import Dropout, FeatureScale, Linear, Words


class RecurrentCaptioner(Captioner):
    """The shared part of the LSTM and the GRU captioner, on pooled features (N, D).

    With `image_enters` "first_word" the image is a word before <bos>; with "initial_state" a linear layer turns it into
    the state before <bos>. A subclass adds the recurrent layer, whose state is `num_states` tensors.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]] = "pooled"
    num_states: ClassVar[int]

    def __init__(
        self,
        vocabulary_size: int,
        feature_size: int,
        *,
        image_enters: ImageEnters,
        embedding_size: Size,
        hidden_size: Size,
        dropout: Share = 0.0,
        embedding_dropout: Share = 0.0,
        tie_weights: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.is_first_word = image_enters == "first_word"
        self.scale = FeatureScale(feature_size)
        self.image = Linear(feature_size, embedding_size if self.is_first_word else self.num_states * hidden_size)
        self.words = Words(
            vocabulary_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            tie_weights=tie_weights,
        )
        self.add_recurrence(embedding_size, hidden_size)
        self.dropout = Dropout(dropout)

    def add_recurrence(self, embedding_size: int, hidden_size: int) -> None:
        """Add the recurrent layer, under the name that checkpoints have for it."""
        raise NotImplementedError

    def advance(self, vectors: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return outputs (N, T, H) and the last state for word vectors (N, T, E); each state tensor is (1, N, H)."""
        raise NotImplementedError

    def state_of(self, image: Tensor) -> State:
        """Return the state before <bos>, each tensor (N, H), of a projected image (N, num_states * H)."""
        raise NotImplementedError

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        state = tuple(part.transpose(0, 1).contiguous() for part in self.initial_state(self.memory(features)))
        outputs, _ = self.advance(self.words.embed(tokens), state)
        hidden: Tensor = self.dropout(outputs)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        """Return the state before <bos>, each tensor (N, hidden_size)."""
        image = self.image(self.dropout(self.scale(features)))
        if self.is_first_word:
            _, state = self.advance(image.unsqueeze(1), None)
            return tuple(part[0] for part in state)
        return self.state_of(image)

    def initial_state(self, memory: Memory) -> State:
        """Return the state before <bos>, each tensor (N, 1, hidden_size)."""
        return tuple(part.unsqueeze(1) for part in memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        before = tuple(part.flatten(0, 1).unsqueeze(0).contiguous() for part in state)
        _, after = self.advance(self.words.embed(tokens.flatten()).unsqueeze(1), before)
        state = tuple(part[0].view(*tokens.shape, -1) for part in after)
        return self.logits(self.dropout(state[0])), state


class LSTMCaptioner(RecurrentCaptioner):
    """An LSTM on pooled features (N, D); its state is (hidden, cell).

    `image_enters` "first_word" is Show and Tell (Vinyals et al. 2015). On the first 3,000 training images of Flickr8k,
    after five epochs, validation perplexity was 39.6 with "first_word", 34.4 with the image beside every word and 32.0
    with "initial_state".
    """

    num_states = 2

    def add_recurrence(self, embedding_size: int, hidden_size: int) -> None:
        self.lstm = nn.LSTM(embedding_size, hidden_size, batch_first=True)

    def advance(self, vectors: Tensor, state: State | None) -> tuple[Tensor, State]:
        outputs, (hidden, cell) = self.lstm(vectors, state)
        return outputs, (hidden, cell)

    def state_of(self, image: Tensor) -> State:
        hidden, cell = image.chunk(2, dim=1)
        return hidden.tanh(), cell


class GRUCaptioner(RecurrentCaptioner):
    """A gated recurrent unit (Cho et al. 2014) on pooled features (N, D); its state is (hidden,)."""

    num_states = 1

    def add_recurrence(self, embedding_size: int, hidden_size: int) -> None:
        self.gru = nn.GRU(embedding_size, hidden_size, batch_first=True)

    def advance(self, vectors: Tensor, state: State | None) -> tuple[Tensor, State]:
        outputs, hidden = self.gru(vectors, None if state is None else state[0])
        return outputs, (hidden,)

    def state_of(self, image: Tensor) -> State:
        return (image.tanh(),)
