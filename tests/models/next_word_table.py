"""A captioner of which all is known: one table of next-token logits per image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seesay.models.captioner import Captioner, Memory, State
from seesay.models.special_tokens import EOS

A, B, C = 4, 5, 6
VOCABULARY_SIZE = 7


class NextWordTable(Captioner):
    """`tables` (images, V, V): logits of the next token after each token; `features` (N, 1) name the image's table."""

    looks_at = "pooled"

    def __init__(self, tables: Tensor) -> None:
        super().__init__()
        self.vocabulary_size = tables.shape[-1]
        self.tables = tables
        self.images_stepped: list[int] = []
        self.eval()

    def memory(self, features: Tensor) -> Memory:
        return (features[:, 0].long(),)

    def initial_state(self, memory: Memory) -> State:
        return (torch.zeros(len(memory[0]), 1, 2),)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        assert tokens.shape == state[0].shape[:2]
        assert len(tokens) == len(memory[0]), "a memory for each image, not for each beam"
        self.images_stepped.append(len(tokens))
        return self.tables[memory[0].unsqueeze(1), tokens], (state[0] + 1,)


def table_of(probabilities: dict[int, dict[int, float]]) -> Tensor:
    """The table (1, V, V) of one image; what nothing is said about ends."""
    table = torch.full((1, VOCABULARY_SIZE, VOCABULARY_SIZE), -torch.inf)
    table[0, :, EOS] = 0.0
    for before, following in probabilities.items():
        table[0, before] = -torch.inf
        for token, probability in following.items():
            table[0, before, token] = math.log(probability)
    return table
