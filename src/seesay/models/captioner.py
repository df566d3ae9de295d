"""What every captioner can do: be taught with whole captions, and say one word at a time."""

from __future__ import annotations

from torch import Tensor, nn

from seesay.models.feature_scale import FeatureScale

State = tuple[Tensor, ...]
"""What a captioner remembers between two words; the first dimension of each tensor is the image, so that decoding
reorders a state by indexing each tensor."""


class Captioner(nn.Module):
    """N images as an encoder's features, captions of T token ids that begin with <bos>, a vocabulary of V tokens.

    An interface only. `scale` standardises the features, and training measures it.
    """

    scale: FeatureScale
    vocabulary_size: int

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, T, V) of what follows each of `tokens` (N, T); none depends on later tokens."""
        raise NotImplementedError

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        """What `logits` turns into predictions, (N, T, H): training drops padded positions before the costly head."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V) of `hidden` (..., H)."""
        raise NotImplementedError

    def initial_state(self, features: Tensor) -> State:
        """What is known before <bos>."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (N, V) of what follows `tokens` (N,), and the state after them."""
        raise NotImplementedError
