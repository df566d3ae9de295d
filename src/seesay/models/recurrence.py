"""How a captioner with attention goes from word to word: an LSTM's gates, and the loop over a caption."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seesay.models.captioner import Memory, State

Advance = Callable[[Tensor, State, Memory], tuple[Tensor, Tensor, State]]
"""One word on: (what the words say to the gates (N, B, G), state, memory) -> (output (N, B, H), how much each place of
the grid is looked at (N, B, L), state)."""


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The next hidden and cell state (..., H), of summed gates (..., 4H) in the order input, forget, output, candidate.

    The hidden state is of the gates' precision, the cell state of its own: sums over many words stay float32.
    """
    size = cell.shape[-1]
    opened, candidate = gates[..., : 3 * size].sigmoid(), gates[..., 3 * size :].tanh()
    take_in, keep, put_out = opened.chunk(3, dim=-1)
    cell = (
        torch.addcmul(take_in * candidate, keep, cell)
        if cell.dtype == gates.dtype
        else keep * cell + take_in * candidate
    )
    return put_out * cell.to(gates.dtype).tanh(), cell


def unroll(advance: Advance, gates: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
    """Outputs (N, T, H) and weights (N, T, L) of whole captions, for `gates` (N, T, G) of all their words."""
    outputs, weights = [], []
    for position in torch.split(gates, 1, dim=1):
        output, looked_at, state = advance(position, state, memory)
        outputs.append(output)
        weights.append(looked_at)
    return torch.cat(outputs, dim=1), torch.cat(weights, dim=1)
