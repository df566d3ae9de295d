"""`seesay.results()`: every experiment's parameters and metrics."""

import math
from pathlib import Path

import pandas as pd
import pytest

import seesay
from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json
from seesay.core.settings import read_yaml
from seesay.report.dataframe import TRAINING
from seesay.report.rules import STAGES

REPOSITORY = Path(__file__).parents[2]


def test_there_is_a_row_for_each_experiment_in_their_order(full_workspace):
    params, paths = full_workspace
    frame = seesay.results(paths.root)
    assert frame.index.names == ["section", "name"]
    assert list(frame.index) == [(section, name) for section in TRAINING for name in getattr(params, section)]
    assert frame.columns.is_unique


def test_a_row_has_parameters_metrics_and_costs(full_workspace):
    _, paths = full_workspace
    row = seesay.results(str(paths.root)).loc[("classifiers", "resnet9")]
    assert row["params.architecture.name"] == "resnet9"
    assert row["params.training.optimizer.learning_rate"] > 0
    assert row["training.best_epoch"] == 6
    metrics = read_json(paths.metrics("evaluate_classifier", "resnet9"))
    assert {key: row[f"metrics.{key}"] for key in metrics} == metrics
    assert row["cost.core_seconds"] == 600.0
    assert row["cost.core_seconds_all_seeds"] == 1830.0
    assert row["cost.seconds"] == 90.0
    assert row["cost.hardware"] == "cpu, 2 threads"
    assert row["cost.num_parameters"] >= 400_000
    captioner = seesay.results(paths.root).loc[("captioners", "lstm_flickr8k")]
    metrics = read_json(paths.metrics("score_captions", "lstm_flickr8k"))
    assert captioner["params.decoding.method"] == "beam"
    assert captioner["params.learning.datasets"] == ("flickr8k",)
    assert captioner["cost.num_parameters"] == 2_500_000
    assert (
        captioner["metrics.test/cider_d"] == read_json(paths.metrics("score_captions", "lstm_flickr8k"))["test/cider_d"]
    )


def test_training_and_evaluation_may_measure_the_same_key(full_workspace):
    _, paths = full_workspace
    for stage, value in (("train_classifier", 1.5), ("evaluate_classifier", 1.25)):
        path = paths.metrics(stage, "mlp")
        write_json(path, {**read_json(path), "val/loss": value})
    row = seesay.results(paths.root).loc[("classifiers", "mlp")]
    assert (row["training.val/loss"], row["metrics.val/loss"]) == (1.5, 1.25)


def test_the_varied_parameters_of_a_section_are_found_by_pandas(full_workspace):
    _, paths = full_workspace
    classifiers = seesay.results(paths.root).loc["classifiers"].filter(like="params.")
    varied = classifiers.loc[:, classifiers.nunique(dropna=False) > 1]  # noqa: PD101
    assert "params.architecture.hidden_sizes" in varied
    assert "params.training.optimizer.nesterov" in varied
    assert classifiers["params.architecture.hidden_sizes"]["mlp"] == (512, 256)


def test_what_is_not_measured_is_missing(full_workspace):
    _, paths = full_workspace
    paths.metrics("evaluate_classifier", "mlp").unlink()
    paths.metrics("compare_classifiers").unlink()
    write_json(paths.metrics("train_captioner", "lstm_flickr8k"), {"val/loss": math.nan})
    frame = seesay.results(paths.root)
    assert pd.isna(frame.loc[("classifiers", "mlp"), "metrics.test/top1"])
    assert pd.isna(frame.loc[("classifiers", "mlp"), "cost.core_seconds"])
    assert pd.isna(frame.loc[("captioners", "lstm_flickr8k"), "training.val/loss"])
    assert frame.loc[("classifiers", "resnet9"), "metrics.test/top1"] > 0
    assert frame["cost.num_parameters"].notna().sum() == len(frame.loc["captioners"])


def test_a_damaged_metrics_file_is_named(full_workspace):
    _, paths = full_workspace
    path = paths.metrics("train_autoencoder", "conv")
    path.write_text("{")
    with pytest.raises(InputError, match=r"conv\.json: not valid JSON"):
        seesay.results(paths.root)


def test_the_current_folder_is_meant_without_a_folder(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    frame = seesay.results()
    assert frame.loc["classifiers", "metrics.test/top1"].max() > 0.5
    assert set(frame.loc["captioners"].index) == set(read_yaml(REPOSITORY / "params.yaml")["captioners"])


def test_elsewhere_one_line_says_what_was_expected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        seesay.results()
    assert str(caught.value) == (
        f"{tmp_path}: no params.yaml here: expected the root of a repository or workspace of seesay"
    )
    (tmp_path / "params.yaml").write_text("learning_rate: 0.1\n")
    with pytest.raises(InputError, match=r"params\.yaml: learning_rate: unknown key"):
        seesay.results()


def test_each_section_is_trained_by_a_stage_that_the_gate_knows():
    assert {section: STAGES[stage].section for section, stage in TRAINING.items()} == {name: name for name in TRAINING}
