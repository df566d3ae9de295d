"""The learning-rate range test: which rates it tries, when it stops, what it suggests, what it refuses."""

from __future__ import annotations

import csv
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest
import torch

from seesay.classification.figures.rate_range import _summarise, draw_rate_range
from seesay.classification.rate_range import RangeTest, RateRange, measure_range, run_range_test, smooth
from seesay.classification.training.experiments import train_classifiers
from seesay.cli import main
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import (
    PackedImages,
    read_packed_images,
    write_packed_images,
)
from seesay.params.classification import Classifier
from seesay.training.checkpoint import save_checkpoint
from seesay.training.checks import TrainingError
from seesay.training.steps import Step

NUM_CLASSES = 3


@pytest.fixture
def measure(problem, training, compute):
    """`measure_range` on the problem; any argument can be another."""

    def run(model=None, **changes):
        arguments = {
            "batches": chain.from_iterable(problem.batches(epoch) for epoch in count(1)),
            "compute_step": problem.step,
            "low": 1e-4,
            "high": 1.0,
            "num_steps": 13,
            "seed": 0,
            "compute": compute,
        }
        settings = changes.pop("training", training)
        return measure_range(model or problem.model(), settings, **{**arguments, **changes})

    return run


def no_log(metrics, *, step):
    pass


def losses_of(values):
    """A `compute_step` whose losses are `values`, one after the other, whatever the network."""
    supply = iter(values)

    def step(model, batch):
        return Step(model(batch[0]).sum() * 0.0 + next(supply), len(batch[1]), {})

    return step


def test_each_rate_is_the_same_factor_above_the_one_before(measure):
    found = measure()
    # 1e-4 to 1 in 13 steps: twelve factors of 10 ** (4 / 12)
    assert found.rates == pytest.approx([1e-4 * 10 ** (step / 3) for step in range(13)])
    assert found.stopped is None
    assert len(found.losses) == len(found.smoothed) == 13


def test_rate_tests_of_one_seed_are_equal_and_the_optimizer_gets_the_rate(measure, problem):
    assert measure() == measure()
    slow = measure(low=1e-12, high=1e-11, num_steps=20)  # too slow to learn: four batches, again and again
    assert np.ptp(slow.smoothed) < np.ptp(measure(low=1e-3, high=1e-1, num_steps=20).smoothed)


def test_smoothing_leaves_equal_losses_and_the_inside_of_a_line_alone():
    assert smooth([2.0] * 5, width=1.5) == pytest.approx([2.0] * 5)
    line = smooth([float(value) for value in range(21)], width=1.0)
    assert line[10] == pytest.approx(10.0)
    # at the end, weights 1, e^-1/2, e^-2, ...: (20 + 19 e^-1/2 + 18 e^-2 + ...) / (1 + e^-1/2 + e^-2 + ...)
    weights = np.exp(-0.5 * np.arange(21) ** 2)
    assert line[20] == pytest.approx((weights @ np.arange(20, -1, -1)) / weights.sum())


def test_it_stops_at_four_times_the_lowest_loss(measure):
    found = measure(compute_step=losses_of([1.0] * 5 + [3.9] * 3 + [9.0] * 5), num_steps=13)
    assert len(found.rates) == 9
    assert found.stopped == f"the loss is more than 4 times its lowest at {found.rates[-1]:.3g}"


def test_it_stops_at_a_loss_that_is_not_finite_and_leaves_that_out(measure):
    found = measure(compute_step=losses_of([1.0, 0.9, float("nan")]))
    assert found.losses == pytest.approx([1.0, 0.9])
    assert found.stopped == "the loss is nan at 0.000464"
    with pytest.raises(TrainingError, match=r"the loss is inf at 0\.0001, the first rate: start lower"):
        measure(compute_step=losses_of([float("inf")]))


def test_accumulated_batches_are_one_step_with_their_mean_loss(measure, training):
    twice = training.model_copy(update={"accumulate_batches": 2})
    found = measure(compute_step=losses_of(float(value) for value in range(1, 21)), num_steps=10, training=twice)
    assert found.losses[:3] == pytest.approx([1.5, 3.5, 5.5])


def test_suggests_where_the_loss_is_lowest_and_where_it_falls_fastest():
    smoothed = [3.0, 2.9, 2.0, 1.0, 0.9, 2.0]
    found = RateRange([10.0**power for power in range(-5, 1)], smoothed, smoothed, None)
    assert found.lowest_at == 1e-1
    # half of the differences of the neighbours: -0.1, -0.5, -0.95, -0.55, 0.5
    assert found.steepest_at == 1e-3
    assert not found.falls_to_the_end
    rising = RateRange([0.1, 1.0], [1.0, 2.0], [1.0, 2.0], None)
    assert rising.steepest_at is None
    assert RateRange([0.1, 1.0], [2.0, 1.0], [2.0, 1.0], None).falls_to_the_end


CELLS = """
seed: 0
runtime: {device: cpu, precision: float32, num_threads: 1, deterministic: true, compile: false}
classifiers:
  small: &small
    dataset: noise
    architecture: {name: mlp, hidden_sizes: [8], dropout: 0.1}
    start: scratch
    augmentation: {flip: true, crop_padding: 1, cutout: 0.2}
    label_smoothing: 0.1
    training:
      epochs: 2
      batch_size: 8
      optimizer: {name: adamw, learning_rate: 1.0e-2, weight_decay: 1.0e-2, beta1: 0.9, beta2: 0.999}
      schedule: {decay: constant}
      max_gradient_norm: 1.0
  student:
    <<: *small
    architecture: {name: mlp, hidden_sizes: [4]}
    start: classifiers/small
    distillation: {weight: 0.5, temperature: 2.0}
  pair: {dataset: noise, architecture: {name: ensemble}, start: classifiers/small}
"""


@pytest.fixture
def workspace(tmp_path: Path, noise: PackedImages) -> Path:
    """Params and prepared images."""
    write_packed_images(Paths(tmp_path).images(noise.name), noise)
    (tmp_path / "params.yaml").write_text(CELLS)
    return tmp_path


def test_the_command_writes_a_table_and_a_figure_and_suggests_rates(workspace, monkeypatch, capsys):
    (workspace / "dvc.yaml").touch()  # as in a repository
    monkeypatch.chdir(workspace)
    with pytest.raises(SystemExit) as ended:
        main(["learning-rates", "small", "--low", "1e-4", "--high", "0.1", "--steps", "20"])
    assert ended.value.code == 0
    folder = workspace / ".work/learning_rates"
    assert {path.name for path in folder.iterdir()} == {"small.csv", "small.svg"}
    rows = list(csv.DictReader((folder / "small.csv").open()))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 21)]
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-4)
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.1)
    said = capsys.readouterr().out
    assert "small: 20 steps of 8 training images of noise, 16x16" in said
    assert "params.yaml has 0.01" in said
    assert ".work/learning_rates/small.csv" in said
    made = {path.relative_to(workspace).parts[0] for path in workspace.rglob("*") if path.is_file()}
    assert made == {"params.yaml", "dvc.yaml", "data", ".work"}


def test_a_fresh_network_is_tested_each_time(workspace):
    first, second = (run_range_test(workspace, "small", low=1e-4, high=1e-1, num_steps=10) for _ in range(2))
    assert first == second
    assert first.result.losses[0] == pytest.approx(np.log(NUM_CLASSES), rel=0.5)


def test_a_student_needs_its_teacher_and_learns_from_it(workspace, compute):
    student = ("student", {"low": 1e-4, "high": 1e-1, "num_steps": 10})
    with pytest.raises(InputError, match=r"models/classifiers/small/0\.pt"):
        run_range_test(workspace, student[0], **student[1])
    settings, paths = read_section(workspace, "classifiers.small", Classifier), Paths(workspace)
    images = read_packed_images(paths.images("noise"))
    made = train_classifiers("small", settings, images, paths, seed=0, compute=compute, log=no_log, resume=None)
    save_checkpoint(paths.classifier("small"), made.checkpoints[0])
    before = paths.classifier("small").read_bytes()
    found = run_range_test(workspace, student[0], **student[1]).result
    # half the labels' loss, ln 3 at first, and half of 2 ** 2 times the teacher's, also about ln 3
    assert found.losses[0] == pytest.approx(2.5 * np.log(3), rel=0.5)
    assert paths.classifier("small").read_bytes() == before


@pytest.mark.parametrize(
    ("cell", "changes", "says"),
    [
        ("nope", {}, r"no key 'classifiers\.nope': expected one of small, student, pair"),
        ("pair", {}, r"classifiers\.pair: an ensemble is not trained; test its members' experiment: small"),
        ("small", {"low": 1.0, "high": 1.0}, "got 1 and 1: expected 0 < low < high"),
        ("small", {"low": 0.0}, "got 0 and 1: expected 0 < low < high"),
        ("small", {"low": float("nan")}, "expected 0 < low < high"),
        ("small", {"num_steps": 9}, "--steps: got 9: expected 10 or more"),
    ],
)
def test_what_cannot_be_tested_is_refused(workspace, cell, changes, says):
    with pytest.raises(InputError, match=says):
        run_range_test(workspace, cell, **{"low": 1e-5, "high": 1.0, "num_steps": 10, **changes})


def test_images_that_are_not_prepared_are_asked_for(workspace):
    (workspace / "data/images/noise/manifest.json").unlink()
    with pytest.raises(InputError, match="no prepared images; first run: seesay repro prepare_images@noise"):
        run_range_test(workspace, "small", low=1e-5, high=1.0, num_steps=10)


def summary_of(result: RateRange) -> str:
    return "\n".join(_summarise("small", RangeTest(result, "noise", 8, 16, peak=0.01)))


def test_no_rate_outside_the_range_is_suggested():
    """The loss is lowest at 2e-3; a tenth of that, 2e-4, is below the first rate."""
    found = RateRange([1e-3, 2e-3, 4e-3], [2.0, 1.0, 1.5], [2.0, 1.0, 1.5], None)
    assert found.suggested == {"where the loss falls fastest": 1e-3}
    assert "suggested peak rate: 0.001 (where the loss falls fastest); params.yaml has 0.01" in summary_of(found)
    assert "is below the first rate: try a lower --low" in summary_of(found)
    wider = RateRange([1e-4, *found.rates], [2.0, *found.losses], [2.0, *found.smoothed], None)
    assert list(wider.suggested.values()) == [1e-3, pytest.approx(2e-4)]


@pytest.mark.parametrize(
    ("losses", "smoothed"),
    [
        ([2.3, 2.299, 2.298], [2.3, 2.299, 2.298]),  # it falls by a thousandth
        ([2.5, 2.0, 2.4, 2.1], [2.3, 2.25, 2.24, 2.23]),  # it falls by 0.07, and varies by 0.2 from step to step
        ([2.3] * 3, [2.3, 2.3 - 1e-15, 2.3]),  # rounding
    ],
)
def test_a_flat_loss_is_called_flat_and_nothing_is_suggested(tmp_path, losses, smoothed):
    found = RateRange([10.0**number for number in range(len(losses))], losses, smoothed, None)
    assert found.is_flat
    assert found.suggested == {}
    assert "no suggested rate: the loss is flat" in summary_of(found)
    draw_rate_range(tmp_path / "flat.svg", found, peak=5.0, title="a cell")


def test_the_figure_s_bytes_depend_on_the_numbers_alone(tmp_path):
    found = RateRange([1e-3, 1e-2, 1e-1, 1.0], [2.0, 1.5, 1.6, 9.0], [2.0, 1.6, 1.7, 8.0], "diverged")
    for name in ("one.svg", "two.svg"):
        draw_rate_range(tmp_path / name, found, peak=0.05, title="a cell")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    never_fell = RateRange([1e-3, 1e-2], [1.0, 2.0], [1.0, 2.0], None)
    draw_rate_range(tmp_path / "flat.svg", never_fell, peak=5.0, title="a cell")
    assert (tmp_path / "flat.svg").is_file()


def test_a_network_with_nothing_to_train_is_refused(measure, problem):
    frozen = problem.model().requires_grad_(False)
    assert isinstance(frozen, torch.nn.Module)
    with pytest.raises(TrainingError, match="no trainable parameters"):
        measure(frozen)
