"""The shared part of captioners that attend to a grid of features before each word."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from seesay.captioning.networks.attention import GridAttention, GridMean, unroll
from seesay.captioning.networks.base import Captioner, Memory, State
from seesay.captioning.networks.layers import Linear, Words


class AttentionCaptioner(Captioner):
    """A captioner on a grid's features (N, L, D): an LSTM attends to the grid at each word.

    A subclass builds the layers annotated here and those of its own, in the order that decides its initial weights. It
    gives `advance`, one step of the recurrence, and `input_gates` and `output` where they differ from those here.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]] = "grid"
    grid: GridAttention
    words: Words
    from_words: Linear
    first_state: GridMean
    dropout: nn.Dropout

    def advance(self, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """Return the output (N, B, H), the attention weights (N, B, L) and the next state.

        `gates` (N, B, G) is the words' part of the LSTM's gates.
        """
        raise NotImplementedError

    def input_gates(self, vectors: Tensor, memory: Memory) -> Tensor:
        """Return the words' part of the LSTM's gates (N, T, G), of word vectors (N, T, E)."""
        gates: Tensor = self.from_words(vectors)
        return gates

    def output(self, vectors: Tensor, outputs: Tensor) -> Tensor:
        """Return the inputs of `logits`, of word vectors (N, T, E) and the outputs of `advance` (N, T, H)."""
        hidden: Tensor = self.dropout(outputs)
        return hidden

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        memory = self.memory(features)
        vectors = self.words.embed(tokens)
        outputs, _ = self._unroll(vectors, memory)
        return self.output(vectors, outputs)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        """Return keys (N, L, attention_size), values (N, L, hidden_size) and, last, the first state
        (N, 1, 2 * hidden_size)."""
        scaled = self.scale(features)
        return *self.grid.prepare(scaled), self.first_state(scaled)

    def initial_state(self, memory: Memory) -> State:
        """Return the state (hidden, cell), each (N, 1, hidden_size)."""
        hidden, cell = memory[-1].chunk(2, dim=2)
        return hidden.tanh(), cell.float()

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        vectors = self.words.embed(tokens)
        output, _, state = self.advance(self.input_gates(vectors, memory), state, memory)
        return self.logits(self.output(vectors, output)), state

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        memory = self.memory(features)
        return self._unroll(self.words.embed(tokens), memory)[1]

    def _unroll(self, vectors: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return unroll(self.advance, self.input_gates(vectors, memory), self.initial_state(memory), memory)
