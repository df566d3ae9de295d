import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seesay.core.errors import InputError
from seesay.params.training import Lookahead, Muon, Schedule, Sgd, Training
from seesay.training.checks import TrainingError
from seesay.training.loop import READ_LOSSES_EVERY, BestBy
from seesay.training.resume import STATE_FILE
from seesay.training.steps import Step


def same_weights(first, second):
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


def with_optimizer(training: Training, **changes) -> Training:
    return training.model_copy(update={"optimizer": training.optimizer.model_copy(update=changes)})


def test_training_learns_and_logs_each_epoch_from_one(fit_problem, problem):
    fit_problem()
    assert [epoch for epoch, _ in problem.logged] == [1, 2, 3, 4]
    assert set(problem.logged[0][1]) == {"train/loss", "train/top1", "val/loss", "learning_rate"}
    assert problem.logged[-1][1]["val/loss"] < 0.7 * problem.logged[0][1]["val/loss"]


def test_a_step_of_sgd_is_the_one_worked_by_hand(fit_problem, training, compute):
    """One weight w = 1, loss = w^2 / 2 * x with x = 2: gradient 2, learning rate 0.25, so w becomes 0.5."""
    settings = training.model_copy(
        update={
            "epochs": 1,
            "optimizer": Sgd(name="sgd", learning_rate=0.25, momentum=0.0, nesterov=False, weight_decay=0.0),
            "schedule": Schedule(decay="constant", warmup_fraction=0.0),
            "moving_average": None,
            "max_gradient_norm": None,
        }
    )
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    best = fit_problem(
        model,
        training=settings,
        batches=lambda epoch: [torch.tensor([[2.0]])],
        num_batches=1,
        compute_step=lambda m, x: Step((m.weight.square() / 2 * x).mean(), 1, {}),
        evaluate=lambda m: {"val/loss": float(m.weight)},
    )
    assert best.state_dict["weight"].item() == 0.5
    assert best.metrics == {"train/loss": 1.0, "val/loss": 0.5, "best_epoch": 1.0, "num_epochs": 1.0}


def test_long_gradients_are_clipped_to_the_norm(fit_problem, training):
    """The gradient of 100 w is 100: clipped to 1, the step is the learning rate, 0.25."""
    settings = training.model_copy(
        update={
            "epochs": 1,
            "optimizer": Sgd(name="sgd", learning_rate=0.25, momentum=0.0, nesterov=False, weight_decay=0.0),
            "schedule": Schedule(decay="constant", warmup_fraction=0.0),
            "moving_average": None,
            "max_gradient_norm": 1.0,
        }
    )
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    best = fit_problem(
        model,
        training=settings,
        batches=lambda epoch: [None],
        num_batches=1,
        compute_step=lambda m, _: Step(100 * m.weight.sum(), 1, {}),
        evaluate=lambda m: {"val/loss": 0.0},
    )
    assert best.state_dict["weight"].item() == pytest.approx(0.75, abs=1e-5)


def test_means_weigh_batches_by_their_examples(fit_problem, training):
    """Losses 1 and 4 over 3 and 1 examples: (3 * 1 + 1 * 4) / 4 = 1.75; one right of four: 0.25."""
    parameter = nn.Linear(1, 1)
    losses = {3: 1.0, 1: 4.0}
    best = fit_problem(
        parameter,
        training=training.model_copy(update={"epochs": 1}),
        batches=lambda epoch: [3, 1],
        num_batches=2,
        compute_step=lambda m, n: Step(m.weight.sum() * 0 + losses[n], n, {"top1": torch.tensor(n // 3)}),
        evaluate=lambda m: {"val/loss": 1.0},
    )
    assert best.metrics["train/loss"] == 1.75
    assert best.metrics["train/top1"] == 0.25


def test_the_best_epoch_is_kept_the_earlier_of_equals(fit_problem, problem):
    losses = iter([3.0, 1.0, 1.0, 2.0])
    seen = []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"val/loss": next(losses)}

    best = fit_problem(evaluate=evaluate)
    assert best.metrics["best_epoch"] == 2
    assert best.metrics["num_epochs"] == 4
    assert best.metrics["val/loss"] == 1.0
    assert same_weights(best.state_dict, seen[1])
    assert "learning_rate" not in best.metrics


SCORE = BestBy("val/score", highest=True)


def test_of_equal_scores_the_lower_loss_wins_then_the_earlier_epoch(fit_problem):
    rows = iter([(0.5, 3.0), (0.7, 3.0), (0.7, 2.0), (0.7, 2.0)])
    best = fit_problem(best_by=SCORE, evaluate=lambda m: dict(zip(("val/score", "val/loss"), next(rows), strict=True)))
    assert best.metrics["best_epoch"] == 3


def test_a_score_that_cannot_tell_epochs_apart_is_warned_of(fit_problem):
    losses = iter([3.0, 1.0, 2.0, 4.0])
    with pytest.warns(UserWarning, match=r"val/score is 0 after each of 4 epochs .* epoch 2, which has the lowest"):
        best = fit_problem(best_by=SCORE, evaluate=lambda m: {"val/score": 0.0, "val/loss": next(losses)})
    assert best.metrics["best_epoch"] == 2


def test_patience_stops_after_that_many_epochs_without_improvement(fit_problem, problem, training):
    losses = iter([3.0, 2.0, 2.5, 2.4, 1.0])
    settings = training.model_copy(update={"epochs": 5, "patience": 2})
    best = fit_problem(training=settings, evaluate=lambda m: {"val/loss": next(losses)})
    assert (best.metrics["best_epoch"], best.metrics["num_epochs"]) == (2, 4)


def test_the_averaged_weights_are_evaluated_and_kept(fit_problem, problem, training):
    evaluated = []

    def evaluate(model):
        evaluated.append(model)
        return problem.evaluate(model)

    model = problem.model()
    best = fit_problem(model, evaluate=evaluate)
    assert all(one is not model for one in evaluated)
    assert not same_weights(best.state_dict, model.state_dict())
    evaluated.clear()
    fit_problem(model, evaluate=evaluate, training=training.model_copy(update={"moving_average": None}))
    assert all(one is model for one in evaluated)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(fit_problem):
    first, second, other = fit_problem(), fit_problem(), fit_problem(seed=1)  # the seed draws dropout
    assert same_weights(first.state_dict, second.state_dict)
    assert first.metrics == second.metrics
    assert not same_weights(first.state_dict, other.state_dict)


@pytest.mark.parametrize("killed_in", [1, 3, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_killed_training_ends_in_the_same_bytes(
    fit_problem, problem, training, adamw, tmp_path, killed_in, optimizer
):
    lookahead = Lookahead(pull=0.5, every_steps=3)  # not a divisor of the steps of an epoch
    muon = Muon(name="muon", learning_rate=0.01, momentum=0.9, norm_bias_rate=2.0, lookahead=lookahead)
    changes = {"sgd": {}, "adamw": {"optimizer": adamw}, "muon": {"optimizer": muon, "sharpness_radius": 0.05}}
    settings = training.model_copy(update=changes[optimizer])
    whole = fit_problem(training=settings)
    history = problem.logged.copy()
    problem.logged.clear()
    problem.fail_in_epoch = killed_in
    with pytest.raises(KeyboardInterrupt):
        fit_problem(training=settings, resume=tmp_path)
    assert (tmp_path / STATE_FILE).exists()
    problem.logged.clear()
    problem.fail_in_epoch = None
    resumed = fit_problem(training=settings, resume=tmp_path)
    assert same_weights(whole.state_dict, resumed.state_dict)
    assert whole.metrics == resumed.metrics
    assert problem.logged == history  # the earlier epochs are told again
    assert (tmp_path / STATE_FILE).exists()  # the stage removes it when its outputs are safe


def test_a_finished_training_is_not_trained_again(fit_problem, problem, tmp_path, capsys):
    whole = fit_problem(resume=tmp_path)
    history = problem.logged.copy()
    problem.logged.clear()
    capsys.readouterr()
    again = fit_problem(resume=tmp_path, batches=lambda epoch: pytest.fail("it trains"))
    assert same_weights(whole.state_dict, again.state_dict)
    assert (whole.metrics, whole.core_seconds, history) == (again.metrics, again.core_seconds, problem.logged)
    assert capsys.readouterr().err == "all 4 epochs are trained already\n"


@pytest.mark.parametrize(
    ("killed_in", "note", "said"),
    [
        (1, "interrupted in epoch 1 of 4", ""),
        (3, "interrupted at epoch 2 of 4", "resuming at epoch 3 of 4\n"),
    ],
)
def test_an_interruption_says_where_it_was_and_where_it_goes_on(
    fit_problem, problem, tmp_path, capsys, killed_in, note, said
):
    def interrupted(epoch):
        if epoch == killed_in:
            raise KeyboardInterrupt
        return problem.batches(epoch)

    with pytest.raises(KeyboardInterrupt) as interruption:
        fit_problem(resume=tmp_path, batches=interrupted)
    assert interruption.value.__notes__ == [note]
    capsys.readouterr()
    fit_problem(resume=tmp_path)
    assert capsys.readouterr().err.startswith(said + f"epoch {killed_in}/4: ")


def test_a_training_killed_within_an_epoch_ends_in_the_same_bytes(fit_problem, problem, tmp_path):
    whole = fit_problem()

    def interrupted(epoch):
        for index, batch in enumerate(problem.batches(epoch)):
            if (epoch, index) == (3, 2):
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        fit_problem(resume=tmp_path, batches=interrupted)
    assert same_weights(whole.state_dict, fit_problem(resume=tmp_path).state_dict)


def test_a_training_out_of_patience_is_not_resumed_beyond(fit_problem, problem, training, tmp_path):
    settings = training.model_copy(update={"patience": 1})
    losses = iter([1.0, 2.0])
    problem.fail_in_epoch = 2
    with pytest.raises(KeyboardInterrupt):
        fit_problem(training=settings, resume=tmp_path, evaluate=lambda m: {"val/loss": next(losses)})
    problem.fail_in_epoch = None
    best = fit_problem(training=settings, resume=tmp_path)
    assert (best.metrics["best_epoch"], best.metrics["num_epochs"]) == (1, 2)


@pytest.mark.parametrize("change", ["settings", "seed", "first weights"])
def test_the_state_of_another_training_is_left_alone(fit_problem, problem, training, tmp_path, change):
    problem.fail_in_epoch = 2
    with pytest.raises(KeyboardInterrupt):
        fit_problem(resume=tmp_path)
    problem.fail_in_epoch = None
    model = problem.model()
    arguments = {}
    if change == "settings":
        arguments["training"] = with_optimizer(training, learning_rate=0.01)
    elif change == "seed":
        arguments["seed"] = 5
    else:
        model[0].weight.data.mul_(2.0)
    with pytest.warns(UserWarning, match="belongs to another run"):
        best = fit_problem(model, resume=tmp_path, **arguments)
    assert best.metrics["num_epochs"] == 4


def test_a_state_cut_short_is_said_and_training_starts_anew(fit_problem, problem, tmp_path):
    problem.fail_in_epoch = 2
    with pytest.raises(KeyboardInterrupt):
        fit_problem(resume=tmp_path)
    problem.fail_in_epoch = None
    content = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(content[: len(content) // 2])
    whole = fit_problem()
    with pytest.warns(UserWarning, match="not a readable checkpoint.*training starts from the beginning"):
        best = fit_problem(resume=tmp_path)
    assert same_weights(whole.state_dict, best.state_dict)


@pytest.mark.parametrize("change", [lambda c: c.pop("fingerprint"), lambda c: c.pop("course"), lambda c: c.clear()])
def test_a_state_without_its_parts_is_said_and_training_starts_anew(fit_problem, tmp_path, change):
    whole = fit_problem(resume=tmp_path)
    content = torch.load(tmp_path / STATE_FILE)
    change(content)
    torch.save(content, tmp_path / STATE_FILE)
    with pytest.warns(UserWarning, match="not the state of a training: training starts from the beginning"):
        best = fit_problem(resume=tmp_path)
    assert same_weights(whole.state_dict, best.state_dict)


@pytest.mark.parametrize("part", ["model", "optimizer", "course"])
def test_a_state_with_a_damaged_part_is_one_error(fit_problem, tmp_path, part):
    fit_problem(resume=tmp_path)
    content = torch.load(tmp_path / STATE_FILE)
    content[part] = {"unknown": torch.zeros(1)}
    torch.save(content, tmp_path / STATE_FILE)
    with pytest.raises(InputError, match=r"training_state\.pt: damaged \(.*\): delete it"):
        fit_problem(resume=tmp_path)


def test_a_loss_that_is_not_finite_stops_and_says_where(fit_problem, problem, training):
    calls = iter(range(100))

    def step(model, batch):
        result = problem.step(model, batch)
        return Step(result.loss * (math.nan if next(calls) == 6 else 1.0), result.num_examples, result.sums)

    with pytest.raises(
        TrainingError, match=r"loss is nan in epoch 2, step 3 of 4, at learning rate 0\.04.*learning_rate"
    ):
        fit_problem(compute_step=step)


def test_a_loss_beyond_the_first_look_is_seen_too(fit_problem, problem, training):
    assert READ_LOSSES_EVERY < 40
    calls = iter(range(100))
    model = nn.Linear(1, 1)
    with pytest.raises(TrainingError, match=r"loss is inf in epoch 1, step 36 of 40"):
        fit_problem(
            model,
            batches=lambda epoch: [None] * 40,
            num_batches=40,
            compute_step=lambda m, _: Step(m.weight.sum() + (math.inf if next(calls) == 35 else 0.0), 1, {}),
        )


def test_a_validation_loss_that_is_not_finite_stops(fit_problem):
    with pytest.raises(TrainingError, match="val/loss is nan after epoch 1"):
        fit_problem(evaluate=lambda m: {"val/loss": math.nan})


def test_a_first_loss_far_from_expected_stops_and_a_near_one_does_not(fit_problem):
    fit_problem(expected_first_loss=math.log(3))
    with pytest.raises(TrainingError, match=r"first loss is .* has about 3\.401"):
        fit_problem(expected_first_loss=math.log(30))


def test_an_optimizer_that_would_miss_a_parameter_is_refused(fit_problem, problem, monkeypatch):
    def incomplete(model, settings, **others):
        return torch.optim.SGD([next(iter(model.parameters()))], lr=0.1)

    monkeypatch.setattr("seesay.training.optim.build_optimizer", incomplete)
    with pytest.raises(TrainingError, match=r"lacks 5 trainable parameters: 0\.bias"):
        fit_problem()


def test_frozen_parameters_stay_and_a_model_of_only_those_is_refused(fit_problem, problem):
    model = problem.model()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    best = fit_problem(model)
    assert torch.equal(best.state_dict["0.weight"], before)
    with pytest.raises(TrainingError, match="no trainable parameters"):
        fit_problem(problem.model().requires_grad_(False))


def test_steps_run_under_autocast_and_evaluation_in_float32(fit_problem, problem, compute):
    from dataclasses import replace

    seen = []

    def step(model, batch):
        seen.append(model(batch[0]).dtype)
        return problem.step(model, batch)

    def evaluate(model):
        seen.append(model(problem.images).dtype)
        return problem.evaluate(model)

    best = fit_problem(compute=replace(compute, autocast_dtype=torch.bfloat16), compute_step=step, evaluate=evaluate)
    assert seen[:5] == [torch.bfloat16] * 4 + [torch.float32]
    assert all(tensor.dtype != torch.bfloat16 for tensor in best.state_dict.values())


def test_a_compiler_that_fails_is_said_once_and_training_goes_on(fit_problem, problem, compute, monkeypatch):
    from dataclasses import replace

    class Broken(nn.Module):
        def forward(self, images):
            raise RuntimeError("no compiler here\nlong details")

    plain = fit_problem()
    monkeypatch.setattr(torch, "compile", lambda model: Broken())
    with pytest.warns(UserWarning, match="continuing without it: no compiler here$") as warned:
        best = fit_problem(compute=replace(compute, compile=True))
    assert len(warned) == 1
    assert same_weights(plain.state_dict, best.state_dict)


def test_where_no_terminal_watches_each_epoch_is_one_line(fit_problem, capsys):
    fit_problem()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("epoch 1/4: train/loss=")


def test_on_a_terminal_a_bar_shows_loss_and_metric(fit_problem, capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fit_problem()
    shown = capsys.readouterr().err
    assert "epoch 1/4" in shown
    assert "train/loss=" in shown
    assert "train/top1=" in shown


def test_a_wrong_number_of_batches_is_a_defect(fit_problem, problem):
    with pytest.raises(AssertionError, match="more than the expected 3 batches"):
        fit_problem(num_batches=3)
    with pytest.raises(AssertionError, match="got 4 batches, expected 5"):
        fit_problem(num_batches=5)


def test_a_tiny_set_is_learnt_by_heart(fit_problem, problem, training):
    settings = training.model_copy(update={"epochs": 40, "moving_average": None})
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 3))
    best = fit_problem(model, training=settings)
    model.load_state_dict(best.state_dict)
    with torch.no_grad():
        assert (model(problem.images).argmax(1) == problem.labels).all()
        assert F.cross_entropy(model(problem.images), problem.labels) < 0.05


def test_accumulated_batches_step_as_one_large_batch_does(fit_problem, problem, training):
    """Two batches of 8 a step, against one batch of 16: the same mean gradient, so the same weights."""
    plain = training.model_copy(update={"epochs": 2, "moving_average": None})
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))  # nothing that depends on the batch's size
    start = copy.deepcopy(model.state_dict())
    halves = fit_problem(model, training=plain.model_copy(update={"accumulate_batches": 2}))

    def doubled(epoch):
        first, second, third, fourth = problem.batches(epoch)
        pairs = ((first, second), (third, fourth))
        return [tuple(map(torch.cat, zip(one, other, strict=True))) for one, other in pairs]

    model.load_state_dict(start)
    whole = fit_problem(model, training=plain, batches=doubled, num_batches=2)
    for name, value in whole.state_dict.items():
        torch.testing.assert_close(halves.state_dict[name], value)


def test_what_is_left_of_an_epoch_makes_a_step_of_its_own(fit_problem, problem, training):
    """4 batches by 3: a step of three and a step of one; the rate is that of 2 steps an epoch."""
    settings = training.model_copy(update={"accumulate_batches": 3, "epochs": 2, "moving_average": None})
    fit_problem(training=settings)
    # 4 steps, one of warm-up: the peak at step 1, then a third less each: step 3 has a third of it
    assert problem.logged[-1][1]["learning_rate"] == pytest.approx(0.05 / 3)


def test_parameters_learn_at_their_share_of_the_rate(fit_problem, problem):
    model = problem.model()
    start = copy.deepcopy(model.state_dict())
    found = fit_problem(model, rate_scales={"0.weight": 0.0, "5.weight": 0.5})
    assert torch.equal(found.state_dict["0.weight"], start["0.weight"])
    assert not torch.equal(found.state_dict["5.weight"], start["5.weight"])


def test_core_seconds_go_on_after_an_interruption(fit_problem, problem, tmp_path):
    problem.fail_in_epoch = 3
    with pytest.raises(KeyboardInterrupt):
        fit_problem(resume=tmp_path)
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    spent = state["course"]["core_seconds"]
    assert spent > 0.0
    problem.fail_in_epoch = None
    assert fit_problem(resume=tmp_path).core_seconds > spent
