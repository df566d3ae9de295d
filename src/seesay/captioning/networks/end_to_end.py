"""A captioner that sees images themselves: its encoder before it, so that both learn."""

from __future__ import annotations

from torch import Tensor

from seesay.captioning.features.encoders import FeatureEncoder
from seesay.captioning.networks.base import Captioner, Memory, State


class SeeingCaptioner(Captioner):
    """Its features are pixels, uint8 RGB (N, 3, H, W).

    The encoder stays in evaluation mode: its batch norms keep their statistics, which small batches would wash out,
    and nothing of it is dropped. All else is the captioner's.
    """

    def __init__(self, encoder: FeatureEncoder, captioner: Captioner) -> None:
        super().__init__()
        self.encoder = encoder
        self.captioner = captioner
        self.vocabulary_size = captioner.vocabulary_size

    def train(self, mode: bool = True) -> SeeingCaptioner:
        super().train(mode)
        self.encoder.eval()
        return self

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.captioner.hidden(self._seen(features), tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.captioner.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        return self.captioner.memory(self._seen(features))

    def initial_state(self, memory: Memory) -> State:
        return self.captioner.initial_state(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        return self.captioner.step(tokens, state, memory)

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.captioner.attention(self._seen(features), tokens)

    def _seen(self, images: Tensor) -> Tensor:
        seen: Tensor = self.encoder(images)[self.captioner.looks_at]
        return seen
