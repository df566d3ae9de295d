import pytest
import torch
from torch import nn

from seesay.params import training
from seesay.training.optim import MovingAverage


def test_the_average_is_the_one_worked_by_hand():
    """decay at the n-th update is min(0.9, (1 + n) / (10 + n)): 2/11, then 3/12."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, training.MovingAverage(decay=0.9, every_steps=1))
    nn.init.ones_(model.weight)
    average.update(model, step=1)  # 2/11 * 0 + 9/11 * 1
    assert average.model.weight.item() == pytest.approx(9 / 11)
    nn.init.constant_(model.weight, 2.0)
    average.update(model, step=2)  # 3/12 * 9/11 + 9/12 * 2
    assert average.model.weight.item() == pytest.approx(0.25 * 9 / 11 + 0.75 * 2)


def test_late_updates_use_the_decay_itself():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, training.MovingAverage(decay=0.9, every_steps=1))
    nn.init.ones_(model.weight)
    average.update(model, step=1000)
    assert average.model.weight.item() == pytest.approx(0.1)


def test_only_every_so_many_steps_count():
    model = nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, training.MovingAverage(decay=0.5, every_steps=3))
    before = average.model.weight.clone()
    nn.init.ones_(model.weight)
    average.update(model, step=1)
    average.update(model, step=2)
    assert torch.equal(average.model.weight, before)
    average.update(model, step=3)
    assert not torch.equal(average.model.weight, before)


def test_batch_norm_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, training.MovingAverage(decay=0.5, every_steps=1))
    model.running_mean.fill_(11.0)
    model.num_batches_tracked.fill_(7)
    average.update(model, step=1)
    assert average.model.running_mean.tolist() == pytest.approx([9.0, 9.0])  # 2/11 * 0 + 9/11 * 11
    assert average.model.num_batches_tracked.item() == 7


def test_the_average_has_no_gradients_and_shares_nothing():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, training.MovingAverage(decay=0.5, every_steps=1))
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert average.model.weight.data_ptr() != model.weight.data_ptr()
    assert all(parameter.requires_grad for parameter in model.parameters())
