"""Ensembles of classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """A classifier whose logits are the logarithm of its members' mean probabilities.

    Members take (N, 3, S, S) normalised floats and return (N, num_classes) logits of the same classes in the same
    order; so does the ensemble.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        logs = torch.stack([member(images).float().log_softmax(dim=1) for member in self.members])
        # The mean of probabilities, not of logits: an unsure member then has less weight.
        return logs.logsumexp(dim=0) - torch.log(torch.tensor(float(len(self.members)), device=logs.device))
