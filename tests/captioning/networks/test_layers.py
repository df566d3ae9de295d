"""Dropout of captioners: shares, scale, gradients and evaluation."""

import pytest
import torch

from seesay.captioning.networks.layers import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_dropout_zeroes_the_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(40, 50, 100, requires_grad=True)
    dropped = Dropout(p)(x)
    zeros = dropped == 0.0
    # 200,000 entries: the standard error of the share is at most 0.0011; rounding to 1/256 moves it by 0.002 at most.
    assert zeros.float().mean().item() == pytest.approx(p, abs=0.006)
    assert dropped[~zeros].unique().item() == pytest.approx(1 / (1 - p), rel=0.02)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.012 / (1 - p))
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())  # type: ignore[arg-type]  # of ones, the factors themselves


def test_every_entry_is_dropped_equally_often() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.5)
    share = torch.stack([dropout(torch.ones(3, 8)) == 0.0 for _ in range(2000)]).float().mean(dim=0)
    assert share.min() > 0.45  # four standard errors
    assert share.max() < 0.55


def test_dropout_follows_the_seed_and_is_off_in_evaluation() -> None:
    dropout, x = Dropout(0.3), torch.rand(7, 13, dtype=torch.bfloat16)
    torch.manual_seed(1)
    first = dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert first.dtype == x.dtype
    assert not torch.equal(dropout(x), first)
    assert Dropout(0.0)(x) is x
    assert dropout.eval()(x) is x
