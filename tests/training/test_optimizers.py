import pytest
import torch
from torch import nn

from seesay.params.training import Sgd
from seesay.training.optim import build_optimizer, parameter_groups


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LSTM(2, 2))


def test_only_matrices_decay(model):
    decayed, free = parameter_groups(model, weight_decay=0.5)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"0.weight", "3.weight", "4.weight_ih_l0", "4.weight_hh_l0"}
    assert len(free["params"]) == 6
    assert all(p.ndim == 1 for p in free["params"])


def test_frozen_and_shared_parameters(model):
    model[0].requires_grad_(False)
    model.append(model[3])
    held = [p for group in parameter_groups(model, weight_decay=0.1) for p in group["params"]]
    assert not {id(p) for p in model[0].parameters()} & {id(p) for p in held}
    assert len(held) == len({id(p) for p in held}) == 8


def test_a_group_without_parameters_is_left_out():
    assert len(parameter_groups(nn.Linear(2, 2, bias=False), weight_decay=0.1)) == 1


def test_settings_reach_the_optimizer(model, adamw):
    optimizer = build_optimizer(model, adamw, fused=False)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    sgd = Sgd(name="sgd", learning_rate=0.1, momentum=0.8, nesterov=True, weight_decay=0.0)
    optimizer = build_optimizer(model, sgd, fused=False)
    assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"], optimizer.defaults["lr"]) == (
        0.8,
        True,
        0.1,
    )
