"""The interface of all captioners: teacher forcing on whole captions, and decoding word by word."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from seesay.captioning.networks.layers import FeatureScale

# Types of constructor arguments that come from params.yaml.
Size = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
ImageEnters = Literal["first_word", "initial_state"]

Memory = tuple[Tensor, ...]
"""The tensors that all words of an image's captions share, computed once. The first dimension of each is the image, so
that decoding drops finished images by indexing each tensor."""

State = tuple[Tensor, ...]
"""The state between two words. The first two dimensions of each tensor are the image and the beam, so that decoding
reorders a state by indexing each tensor."""


class Captioner(nn.Module):
    """A network from image features and the words so far to the logits of the next word. An interface only.

    Shapes: N images, T token ids per caption, of which the first is <bos>, and a vocabulary of V tokens. Features are
    pooled (N, D) or a grid (N, L, D), as `looks_at` says. `scale` standardises them; training sets its statistics. B
    captions of one image can be decoded together: the beams of a search, or samples.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]]
    scale: FeatureScale
    vocabulary_size: int

    def inputs(self) -> list[tuple[int, Literal["pooled", "grid"]]]:
        """Return what it reads of an image: positions in its experiment's `features`, and the kind of each.

        An ensemble's members may read different ones: it takes them flat and side by side, (N, F).
        """
        return [(0, self.looks_at)]

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits (N, T, V) of the token after each of `tokens` (N, T); none depends on later tokens."""
        return self.logits(self.hidden(features, tokens))

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return the inputs (N, T, H) of `logits`.

        Training drops padded positions between the two methods, before the costly output layer.
        """
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of `hidden` (..., H)."""
        raise NotImplementedError

    def memory(self, features: Tensor) -> Memory:
        """Return the memory of N images, each tensor (N, ...)."""
        raise NotImplementedError

    def initial_state(self, memory: Memory) -> State:
        """Return the state before <bos>, each tensor (N, 1, ...): the same for all beams of an image."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Return the logits (N, B, V) after `tokens` (N, B), and the next state, each tensor (N, B, ...)."""
        raise NotImplementedError

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return the attention weights (N, T, L) of the word after each of `tokens` (N, T); they sum to one over L.

        Only captioners on grid features have them.
        """
        raise NotImplementedError
