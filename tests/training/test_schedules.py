import pytest
import torch

from seesay.params.training import Schedule
from seesay.training.optim import learning_rate_at


def course(decay, warmup_fraction, num_steps, peak=1.0, **others):
    schedule = Schedule(decay=decay, warmup_fraction=warmup_fraction, **others)
    return [learning_rate_at(step, num_steps=num_steps, peak=peak, schedule=schedule) for step in range(num_steps)]


def test_linear_rises_to_the_peak_and_falls_by_equal_amounts():
    # 2 of 10 steps warm up: 1/3, 2/3; then the peak, less an eighth each step.
    expected = [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert course("linear", 0.2, 10) == pytest.approx(expected)


def test_cosine_is_half_way_at_half_time():
    # (1 + cos(pi t)) / 2 at t = 0, 1/4, 1/2, 3/4
    assert course("cosine", 0.0, 4, peak=2.0) == pytest.approx([2.0, 1.7071068, 1.0, 0.2928932])


def test_constant_stays_after_its_warm_up():
    assert course("constant", 0.5, 4, peak=0.3) == pytest.approx([0.1, 0.2, 0.3, 0.3])


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_no_step_is_without_learning(decay, warmup_fraction, num_steps):
    assert all(0.0 < rate <= 1.0 for rate in course(decay, warmup_fraction, num_steps))


def test_step_drops_by_its_factor_at_each_milestone():
    rates = course("step", 0.2, 10, milestones=[0.5, 0.8], factor=0.1)
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_is_torch_s():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=20, pct_start=0.3)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step() if len(expected) < 20 else None
    assert course("one_cycle", 0.3, 20, peak=0.4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "step"}, "milestones and factor: expected with decay step"),
        ({"decay": "cosine", "milestones": [0.5], "factor": 0.1}, "milestones and factor: expected with decay step"),
        ({"decay": "step", "milestones": [0.8, 0.5], "factor": 0.1}, "expected rising shares"),
    ],
)
def test_steps_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Schedule(warmup_fraction=0.0, **settings)
