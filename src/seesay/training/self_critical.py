"""How a captioner learns by reward: of its own captions of an image, those better than the others become likelier."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from seesay.data.caption_batches import ImageBatch
from seesay.models.captioner import Captioner
from seesay.models.decoding import sample_captions
from seesay.models.special_tokens import BOS, EOS, NEVER_EMITTED, PAD
from seesay.training.loop import Step
from seesay.training.policy import as_at_test, without_dropout

Reward = Callable[[np.ndarray, list[list[int]]], np.ndarray]
"""(images, captions) -> float64 (captions,): caption i is of image `images[i]`, a position in the list of training
images, and is token ids that end with <eos> unless it was cut at the longest length."""


def self_critical_step(
    captioner: nn.Module,
    batch: ImageBatch,
    *,
    num_samples: int,
    max_length: int,
    reward: Reward,
    generator: torch.Generator,
) -> Step:
    """Draws `num_samples` captions an image and returns the loss whose gradient is the policy's (Rennie et al., 2017).

    The loss is the mean over all drawn tokens, <eos> included, of -(reward - baseline) * log p(token). The baseline of
    a caption is the mean reward of the image's other captions (Luo, 2020, "A Better Variant of Self-Critical Sequence
    Training"), which needs no greedy decoding. Captions are drawn, and their probability is taken, without dropout:
    the gradient is exact only for the distribution that was drawn from. `generator` is on the batch's device. Sums:
    `reward`, and `unended`, captions cut at `max_length`.
    """
    model = cast(Captioner, captioner)
    with torch.no_grad(), as_at_test(captioner):
        memory = model.memory(batch.features)
        drawn = sample_captions(model, memory, num_samples=num_samples, max_length=max_length, generator=generator)
    drawn = drawn.clone()  # decoding's tensors know no gradients
    captions = [ids[: int(length)] for ids, length in zip(drawn.flatten(0, 1).tolist(), _lengths(drawn), strict=True)]
    rewards = torch.from_numpy(reward(np.repeat(batch.images, num_samples), captions)).view(-1, num_samples)
    gains = advantages(rewards).float().to(drawn.device)
    with without_dropout(captioner):
        log_probabilities, taken = token_log_probabilities(model, batch.features, drawn)
    weights = gains.flatten().repeat_interleave(drawn.shape[2])[taken]
    loss = -(weights * log_probabilities).mean()
    unended = (drawn != PAD).all(dim=2) & (drawn[:, :, -1] != EOS)
    is_longest = drawn.shape[2] == max_length
    return Step(loss, len(captions), {"reward": rewards.sum(), "unended": unended.sum() * is_longest})


def advantages(rewards: Tensor) -> Tensor:
    """By how much each of `rewards` (N, S) exceeds the mean of the other S - 1 in its row; of equals exactly 0."""
    rewards = rewards - rewards[:, :1]  # sums of equal numbers are rounded, of zeros not
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def token_log_probabilities(captioner: Captioner, features: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability, float32, of each token of `drawn` (N, S, T) that is not <pad>, and where it is in N * S * T.

    Among the tokens that decoding may choose, as when they were drawn.
    """
    num_samples = drawn.shape[1]
    targets = drawn.flatten(0, 1)
    inputs = torch.cat([targets.new_full((len(targets), 1), BOS), targets[:, :-1]], dim=1)
    taken = (targets.flatten() != PAD).nonzero().squeeze(1)
    hidden = captioner.hidden(features.repeat_interleave(num_samples, dim=0), inputs)
    logits = captioner.logits(hidden.flatten(0, 1).index_select(0, taken)).float()
    logits = logits.index_fill(1, torch.tensor(NEVER_EMITTED, device=logits.device), -torch.inf)
    chosen = targets.flatten()[taken].unsqueeze(1)
    return logits.log_softmax(dim=1).gather(1, chosen).squeeze(1), taken


def _lengths(drawn: Tensor) -> list[int]:
    lengths: list[int] = (drawn != PAD).sum(dim=2).flatten().tolist()
    return lengths
