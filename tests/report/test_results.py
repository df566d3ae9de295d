import json
import math
from dataclasses import asdict

import pytest

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json
from seesay.plotting.table import (
    Timings,
    format_change,
    format_value,
    magnitude,
    percent,
    percent_with_interval,
    percent_with_spread,
    probability,
    whole,
)
from seesay.report.results import (
    Results,
    collect_results,
    read_results,
    results_markdown,
    results_tables,
    write_results,
)

NOTHING_MEASURED = Timings()


def test_rows_come_for_each_cell_of_params_in_their_order(full_workspace):
    params, paths = full_workspace
    results = collect_results(params, paths)
    ours = [row for row in results.classification if "source" not in row]
    for dataset in {classifier.dataset for classifier in params.classifiers.values()}:
        cells = [cell for cell, classifier in params.classifiers.items() if classifier.dataset == dataset]
        assert [row["cell"] for row in ours if row["dataset"] == dataset] == [*cells, "chance"]
    assert [row["cell"] for row in results.autoencoders] == list(params.autoencoders)
    sets = ("test", "val", "test_shuffled", "floor_constant", "floor_random", "floor_nearest", "human")
    first = next(iter(params.captioners))
    assert [(row["cell"], row["set"]) for row in results.captions[: len(sets)]] == [(first, name) for name in sets]
    assert [row["dataset"] for row in results.datasets] == [*params.image_datasets, *params.caption_datasets]


def test_files_of_cells_that_are_not_in_params_do_not_count(full_workspace):
    params, paths = full_workspace
    write_json(paths.metrics("evaluate_classifier", "removed"), {"test/top1": 1.0})
    assert "removed" not in [row["cell"] for row in collect_results(params, paths).classification]


@pytest.mark.parametrize(
    ("stage", "cell"),
    [
        ("evaluate_classifier", "resnet9"),
        ("train_classifier", "mlp"),
        ("evaluate_autoencoder", "conv"),
        ("explain_autoencoder", "masked"),
        ("score_captions", "lstm_flickr8k"),
        ("compare_classifiers", None),
        ("compare_captioners", None),
    ],
)
def test_a_missing_metrics_file_is_named_with_its_cell(full_workspace, stage, cell):
    params, paths = full_workspace
    path = paths.metrics(stage, cell)
    path.unlink()
    with pytest.raises(InputError) as caught:
        collect_results(params, paths)
    assert str(path) in str(caught.value)
    assert (stage if cell is None else f"{stage}@{cell}") in str(caught.value)


def test_a_missing_data_report_is_named(full_workspace):
    params, paths = full_workspace
    paths.data_report("prepare_captions", "flickr8k").unlink()
    with pytest.raises(InputError, match="prepare_captions@flickr8k"):
        collect_results(params, paths)


def test_a_metrics_file_without_its_metric_is_named(full_workspace):
    params, paths = full_workspace
    write_json(paths.metrics("score_captions", "lstm_flickr8k"), {"test/cider_d": 0.3})
    with pytest.raises(InputError, match=r"lstm_flickr8k\.json: .* have no val/cider_d, test_shuffled/cider_d"):
        collect_results(params, paths)


def test_results_are_written_the_same_each_time_and_read_back(full_workspace):
    params, paths = full_workspace
    results = collect_results(params, paths)
    write_results(paths.results_data, results)
    first = paths.results_data.read_bytes()
    write_results(paths.results_data, collect_results(params, paths))
    assert paths.results_data.read_bytes() == first
    assert read_results(paths.results_data) == results
    assert str(paths.root) not in first.decode()


def test_a_number_that_is_not_finite_becomes_null_and_a_dash(full_workspace):
    params, paths = full_workspace
    path = paths.metrics("evaluate_classifier", "mlp")
    write_json(path, {**read_json(path), "test/top1": math.nan})
    results = collect_results(params, paths)
    assert next(row for row in results.classification if row["cell"] == "mlp")["test/top1"] is None
    json.dumps(asdict(results), allow_nan=False)
    sections, _ = results_tables(results, NOTHING_MEASURED)
    assert next(row for row in sections["classification"][0].rows if row[0] == "mlp")[1] == "–"


def test_results_of_something_else_are_refused(tmp_path):
    write_json(tmp_path / "results.json", {"rows": []})
    with pytest.raises(InputError, match="classification, autoencoders, captions, datasets"):
        read_results(tmp_path / "results.json")


LSTM = {
    "cell": "lstm",
    "dataset": "flickr8k",
    "architecture": "lstm",
    "features": "flickr8k_efficientnet",
    "sees": "mobilenet_v2, pooled",
    "search": "beam 5",
    "learned": "captions",
    "substitutes": ["images.zip", "weights.pth"],
}
OF_TEST = {
    "bleu1": 0.6,
    "bleu2": 0.41,
    "bleu3": 0.28,
    "bleu4": 0.195,
    "rouge_l": 0.444,
    "cider_d": 0.352,
    "cider_d_low": 0.331,
    "cider_d_high": 0.3742,
    "mean_length": 9.34,
    "vocabulary_size": 1234.0,
    "distinct2": 0.256,
    "share_novel": 0.8,
    "num_parameters": 2_500_000,
}
RESULTS = Results(
    classification=[
        {
            "cell": "plain",
            "dataset": "tiny30",
            "num_parameters": 1_000_000,
            "flops": 100_000_000,
            "test/top1": 0.5,
            "substitutes": ["tiny.zip"],
        },
        {
            "cell": "resnet9",
            "dataset": "tiny30",
            "num_parameters": 1_650_000,
            "flops": 190_000_000,
            "training_flops": 1.54e14,
            "test/top1": 0.688,
            "test/top1_low": 0.665,
            "test/top1_high": 0.711,
            "test/top5": 0.9,
            "test/macro_f1": 0.6812,
            "test/ece": 0.08,
            "test/ece_calibrated": 0.0212,
            "test/num_images": 1500.0,
            "seeds/num": 3.0,
            "seeds/test/top1_mean": 0.69,
            "seeds/test/top1_std": 0.006,
            "mcnemar/next": "plain",
            "mcnemar/b": 154,
            "mcnemar/c": 54,
            "mcnemar/p": 2.5e-12,
            "val/top1": 0.7,
            "substitutes": ["tiny.zip"],
        },
        {"cell": "chance", "dataset": "tiny30", "test/top1": 1 / 30, "substitutes": []},
        {"cell": "A net", "dataset": "tiny30", "source": "a thesis", "test/top1": 0.54, "substitutes": []},
        {"cell": "B net", "dataset": "tiny200", "source": "a paper", "test/top1": 0.617, "substitutes": []},
    ],
    autoencoders=[],
    captions=[
        {**LSTM, "set": "test", **OF_TEST},
        {**LSTM, "set": "val", "cider_d": 0.36},
        {**LSTM, "set": "test_shuffled", "cider_d": 0.088},
        {**LSTM, "set": "floor_constant", "cider_d": 0.093},
        {**LSTM, "set": "floor_nearest", "cider_d": 0.21},
        {**LSTM, "set": "human", "cider_d": 0.789},
        {**LSTM, "cell": "better", "built_on": "lstm", "learned": "SCST on lstm", "set": "test", "cider_d": 0.5},
        {**LSTM, "cell": "better", "set": "human", "cider_d": 0.789},
    ],
    datasets=[
        {
            "dataset": "tiny30",
            "kind": "images",
            "num_images": {"train": 13476, "val": 1500, "test": 1500},
            "num_captions": None,
            "substitutes": ["tiny.zip"],
        }
    ],
)


def test_tables_show_percent_decimals_and_marks():
    measured = Timings(
        {"resnet9": {1: 56.7, 256: 437.2}}, {"resnet9": 600.0}, {"resnet9": 1830.0}, {"lstm": 930.0, "better": 600.0}
    )
    text = results_markdown(
        RESULTS,
        title="Results",
        note="A note.",
        provenance="Run today.",
        timings=measured,
        figures=[("f/a.svg", "Costs")],
    )
    assert "## Classification on tiny30¹\n" in text
    assert (
        "| resnet9 | 68.8 (66.5 to 71.1) | 69.0 ± 0.6 (3) | 154 : 54, p < 0.0001 | 90.0 | 68.1 | 8.0 | 2.1 | 70.0 |"
        in text
    )
    assert "| resnet9 | tiny30¹ | 1.65 M | 190 M | 154 T | 10.0 | 10.0 | 30.5 | 57 | 437 |" in text
    assert "## Captions of flickr8k\n" in text
    assert (  # (0.352 - 0.088) / 0.352 = 0.75
        "| lstm² | 0.352 (0.331 to 0.374) | 19.5 | 0.088 | 75 | lstm | mobilenet_v2, pooled | captions | beam 5 "
        "| 60.0 | 41.0 | 28.0 | 44.4 | 9.3 | 1,234 | 0.26 | 80.0 | 2.5 M | 15.5 | 15.5 |" in text
    )
    assert "| tiny30¹ | images | 13,476 | 1,500 | 1,500 | – | – | – |" in text
    assert "\n\n¹ Substitutes: computed from files of a mirror that differ from the official ones: tiny.zip.\n" in text
    assert "official ones: images.zip, weights.pth." in text
    assert text.startswith("# Results\n\nA note. Run today.\n\n![Costs](f/a.svg)\n\n## Classification on tiny30")
    assert "Autoencoders" not in text


def test_classifiers_and_published_results_are_ranked_together():
    """Chance comes last."""
    accuracy = results_tables(RESULTS, NOTHING_MEASURED)[0]["classification"][0]
    assert [row[:2] for row in accuracy.rows] == [
        ("resnet9", "68.8 (66.5 to 71.1)"),
        ("published: A net", "54.0"),
        ("plain", "50.0"),
        ("chance", "3.3"),
    ]


def captions_table(measured=NOTHING_MEASURED):
    return results_tables(RESULTS, measured)[0]["captions"][0]


def test_captioners_are_ranked_and_floors_and_people_are_said_once():
    assert [row[0] for row in captions_table().rows] == [
        *("better²", "lstm²", "floor: nearest training image's caption", "floor: best constant caption"),
        "human: a reference against the others",
    ]


def test_a_captioner_built_on_another_costs_both_from_nothing():
    table = captions_table(Timings(captioner_core_seconds={"lstm": 930.0, "better": 600.0}))
    # 600 s are 10 minutes; 600 s + 930 s are 25.5
    assert [row[-2:] for row in table.rows[:2]] == [("10.0", "25.5"), ("15.5", "15.5")]


def test_val_scores_of_captioners_have_a_table_of_their_own():
    tables = {table.title: table for table in results_tables(RESULTS, NOTHING_MEASURED)[0]["captions"]}
    assert tables["Captions of val images"].rows == (("lstm", "flickr8k²", "0.360"),)


def test_a_captioner_that_the_comparison_lacks_is_named(full_workspace):
    params, paths = full_workspace
    path = paths.metrics("compare_captioners")
    rows = [row for row in read_json(path)["rows"] if row["cell"] != "lstm_flickr8k"]
    write_json(path, {"rows": rows})
    with pytest.raises(InputError, match=r"compare_captioners\.json: no row for the captioner lstm_flickr8k"):
        collect_results(params, paths)


def test_published_results_are_listed_with_their_sources():
    """Results on other tasks have a table of their own."""
    tables = {table.title: table for table in results_tables(RESULTS, NOTHING_MEASURED)[0]["classification"]}
    assert tables["Published on these datasets"].rows == (("A net", "tiny30", "a thesis", "54.0"),)
    assert tables["Published on other tasks, for context"].rows == (("B net", "tiny200", "a paper", "61.7"),)


def test_columns_that_nothing_is_known_of_are_left_out():
    text = results_markdown(RESULTS, title="t", note="", provenance="", timings=NOTHING_MEASURED, figures=[])
    assert "images/s" not in text
    assert "core-min" not in text
    assert "with flip" not in text.split("| classifier |")[1]


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("evaluate_classifier/a:test/top1", 0.688, "68.8 %"),
        ("score_captions/a:test/cider_d", 0.3, "0.3"),
        ("evaluate_autoencoder/a:test/psnr", 22.408, "22.41 dB"),
        ("evaluate_autoencoder/a:test/mean_image_psnr", 12.0, "12.00 dB"),
        ("x:test/num_images", 1500.0, "1500"),
        ("x:test/top1", math.nan, "nan"),
        ("x:test/ece_calibrated", 0.0218, "2.18 %"),
        ("x:seeds/test/top1_mean", 0.7, "70 %"),
        ("x:test/auc_macro", 0.98, "0.98"),
    ],
)
def test_values_are_shown_in_their_unit(metric, value, shown):
    assert format_value(metric, value) == shown


def test_differences_are_shown_in_points_or_decibels():
    assert format_change("a:test/top1", 0.02) == "2 points"
    assert format_change("a:test/psnr", 0.5) == "0.5 dB"
    assert format_change("a:test/cider_d", 0.03) == "0.03"


def test_counts_and_shares_are_rounded_for_people():
    assert (whole(13500), whole(None), percent(None), percent(0.12345)) == ("13,500", "–", "–", "12.3")
    assert (magnitude(1.65e6), magnitude(950), magnitude(3.14e9), magnitude(0)) == ("1.65 M", "950", "3.14 G", "0")
    assert (magnitude(1.54e14), magnitude(1e15)) == ("154 T", "1 P")


def test_intervals_spreads_and_probabilities_are_shown_where_known():
    assert percent_with_interval(0.5, 0.48, 0.521) == "50.0 (48.0 to 52.1)"
    assert percent_with_interval(0.5, None, 0.521) == "50.0"
    assert percent_with_spread(0.7, 0.0071, 3.0) == "70.0 ± 0.7 (3)"
    assert percent_with_spread(None, None, None) == "–"
    assert [probability(p) for p in (None, 1.0, 0.234, 0.0321, 2e-12)] == [
        *("–", "p 1.00", "p 0.23", "p 0.032", "p < 0.0001")
    ]
