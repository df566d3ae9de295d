"""A captioner that takes images instead of features: an encoder and a captioner trained together."""

from __future__ import annotations

from torch import Tensor

from seesay.captioning.features.encoders import FeatureEncoder
from seesay.captioning.networks.base import Captioner, Memory, State


class EndToEndCaptioner(Captioner):
    """An encoder before a captioner; its features are pixels, uint8 RGB (N, 3, H, W).

    The encoder stays in evaluation mode, without dropout: small batches would spoil the statistics of its batch norms.
    """

    def __init__(self, encoder: FeatureEncoder, captioner: Captioner) -> None:
        super().__init__()
        self.encoder = encoder
        self.captioner = captioner
        self.vocabulary_size = captioner.vocabulary_size

    def train(self, mode: bool = True) -> EndToEndCaptioner:
        super().train(mode)
        self.encoder.eval()
        return self

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.captioner.hidden(self._encode(features), tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.captioner.logits(hidden)

    def memory(self, features: Tensor) -> Memory:
        return self.captioner.memory(self._encode(features))

    def initial_state(self, memory: Memory) -> State:
        return self.captioner.initial_state(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        return self.captioner.step(tokens, state, memory)

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.captioner.attention(self._encode(features), tokens)

    def _encode(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images)[self.captioner.looks_at]
        return features
