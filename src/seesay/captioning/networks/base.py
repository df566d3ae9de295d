"""What every captioner can do: be taught with whole captions, and say one word at a time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from seesay.captioning.networks.layers import FeatureScale

Size = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
ImageEnters = Literal["first_word", "initial_state"]
"""What constructors of captioners take from params.yaml."""

Memory = tuple[Tensor, ...]
"""What every word of an image's caption may look at, computed once an image; the first dimension of each tensor is the
image, so that decoding drops finished images by indexing each tensor."""

State = tuple[Tensor, ...]
"""What a captioner remembers between two words; the first two dimensions of each tensor are the image and the beam, so
that decoding reorders a state by indexing each tensor."""


class Captioner(nn.Module):
    """N images as an encoder's features, captions of T token ids that begin with <bos>, a vocabulary of V tokens.

    An interface only. Features are pooled ones (N, D) or a grid's (N, L, D), as `looks_at` says. `scale` standardises
    them, and training measures it. B captions of one image may be said at once: the beams of a search, or samples.
    """

    looks_at: ClassVar[Literal["pooled", "grid"]]
    scale: FeatureScale
    vocabulary_size: int

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, T, V) of what follows each of `tokens` (N, T); none depends on later tokens."""
        return self.logits(self.hidden(features, tokens))

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        """What `logits` turns into predictions, (N, T, H): training drops padded positions before the costly head."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V) of `hidden` (..., H)."""
        raise NotImplementedError

    def memory(self, features: Tensor) -> Memory:
        """What the words of a caption look at, each tensor (N, ...)."""
        raise NotImplementedError

    def initial_state(self, memory: Memory) -> State:
        """What is known before <bos>, each tensor (N, 1, ...): the same for all beams of an image."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Logits (N, B, V) of what follows `tokens` (N, B), and the state after them, each tensor (N, B, ...)."""
        raise NotImplementedError

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        """How much the word after each of `tokens` (N, T) looks at each place of the grid, (N, T, L), summing to one.

        Only captioners that look at a grid can tell.
        """
        raise NotImplementedError
