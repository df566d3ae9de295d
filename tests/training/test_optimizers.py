import pytest
import torch
from torch import nn

from seesay.params.training import Muon, Sgd
from seesay.training.optim import build_optimizer, parameter_groups, set_learning_rate, sharpest_nearby


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


def test_biases_of_batch_norms_learn_at_a_rate_of_their_own(model):
    settings = Sgd(name="sgd", learning_rate=0.1, norm_bias_rate=8.0)
    optimizer = build_optimizer(model, settings, fused=False, rate_scales={"1.bias": 0.5, "3.bias": 0.5})
    set_learning_rate(optimizer, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rate for name, rate in rates.items() if rate != 0.1} == {"1.bias": 0.4, "3.bias": 0.05}


def test_muon_turns_convolutions_and_leaves_biases_to_adamw():
    """The update of a matrix has all singular values near those of one scale, whatever the gradient's are."""
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build_optimizer(model, Muon(name="muon", learning_rate=0.1, momentum=0.9), fused=False)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    moves = [(parameter.detach() - old) for parameter, old in zip(model.parameters(), before, strict=True)]
    values = torch.linalg.svdvals(moves[0].flatten(1))
    assert values.max() / values.min() < 2
    assert torch.linalg.svdvals(next(model.parameters()).grad.flatten(1)).max() / values.min() > 2
    assert all(move.abs().max() > 0 for move in moves)


def test_lookahead_pulls_weights_towards_the_fast_ones():
    """Steps of -1 from 0; after the second, the slow weight is where the fast one first was looked at."""
    weight = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    settings = Sgd(name="sgd", learning_rate=1.0, lookahead={"pull": 0.5, "every_steps": 2})
    optimizer = build_optimizer(weight, settings, fused=False)
    found = []
    for _ in range(4):
        weight.weight.grad = torch.ones(1, 1)
        optimizer.step()
        found.append(weight.weight.item())
    assert found == [-1.0, -2.0, -3.0, -3.0]  # -2, then half of the way from -2 to -4


def test_sam_takes_the_gradient_at_the_sharpest_point_nearby():
    """Loss w^2 / 2 at w = 3: the point at distance 0.5 along the gradient is 3.5, and so is the gradient there."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm2d(1, affine=False))
    nn.init.constant_(model[0].weight, 3.0)
    (model[0].weight.square().sum() / 2).backward()
    with sharpest_nearby(model, 0.5):
        assert model[0].weight.item() == 3.5
        model[1](torch.randn(4, 1, 2, 2))  # seen before: the statistics stay
        (model[0].weight.square().sum() / 2).backward()
    assert (model[0].weight.item(), model[0].weight.grad.item()) == (3.0, 3.5)
    assert model[1].running_mean.item() == 0.0
    assert model[1].momentum == 0.1
