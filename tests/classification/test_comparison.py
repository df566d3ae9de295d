from dataclasses import replace

import numpy as np
import pytest

from seesay.classification.compare import chance_row, compare_classifiers
from seesay.classification.predictions import ClassPredictions, SplitPredictions, write_class_predictions
from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.images.packed import read_packed_images, write_packed_images
from seesay.params.classification import Architecture, Classifier
from seesay.params.results import Comparison, Published
from seesay.training.checkpoint import save_checkpoint

SETTINGS = Comparison(
    throughput_batch_sizes=(1, 2),
    throughput_repeats=3,
    samples_per_class=1,
    samples_seed=0,
    overfitting_study=(),
    published=(Published(name="A net", dataset="tiny", top1=0.45, source="a thesis"),),
)
ARCHITECTURES = {
    "small": Architecture(name="mlp", hidden_sizes=[4], dropout=0.0),
    "round": Architecture(name="resnet9", width=2),
}


@pytest.fixture
def workspace(tmp_path, make_images, new_checkpoint):
    """Two trained cells on a dataset of six classes."""
    paths, images = Paths(tmp_path), make_images(6, num_per_class=1)
    write_packed_images(paths.images("tiny"), images)
    for cell, architecture in ARCHITECTURES.items():
        save_checkpoint(paths.classifier(cell), new_checkpoint(images, architecture))
        top1 = {"small": 0.5, "round": 1.0}[cell]
        metrics = {"test/top1": top1, "test/top1_low": 0.3, "test/top5": 0.9, "val/top1": 0.4, "test/loss": 1.0}
        write_json(paths.metrics("evaluate_classifier", cell), metrics)
        write_json(paths.metrics("train_classifier", cell), {"train/flops": 1e9} if cell == "small" else {})
        write_answers(paths, cell, labels=images.test.labels, num_right=round(6 * top1))
    return paths


def write_answers(paths, cell, *, labels, num_right):
    """The first `num_right` images right, the others not."""
    said = np.where(np.arange(len(labels)) < num_right, labels, (labels + 1) % 6)
    split = SplitPredictions(np.eye(6, dtype=np.float32)[said], labels, tuple("abcdef"))
    write_class_predictions(paths.class_predictions(cell), ClassPredictions(val=split, test=split))


def entry(**changes):
    """A classifier's settings, of which only `start` counts here."""
    settings = {"dataset": "tiny", "start": "scratch"}
    return Classifier.model_construct(**(settings | changes))


def compare(paths, compute, cells=tuple(ARCHITECTURES), **changes):
    datasets = {"tiny": read_packed_images(paths.images("tiny"))}
    settings = {cell: entry(**changes) for cell in cells}
    return compare_classifiers(settings, datasets, paths, SETTINGS, compute=compute)


def test_a_row_per_cell_one_for_chance_and_one_for_each_published_result(workspace, compute):
    rows = compare(workspace, compute).rows
    assert [row["cell"] for row in rows] == ["small", "round", "chance", "A net"]
    # 16 * 16 * 3 = 768 inputs: weights 768 * 4 + 4 * 6, biases 4 + 6; two operations per weight
    assert rows[0] == {
        "cell": "small",
        "dataset": "tiny",
        "architecture": "mlp",
        "num_classes": 6,
        "num_parameters": 768 * 4 + 4 * 6 + 10,
        "flops": 2 * (768 * 4 + 4 * 6),
        "training_flops": 1e9,
        "substitutes": ["a.zip"],
        "test/top1": 0.5,
        "test/top1_low": 0.3,
        "test/top5": 0.9,
        "val/top1": 0.4,
    }
    assert rows[2]["test/top1"] == pytest.approx(1 / 6)
    assert rows[2]["test/top5"] == pytest.approx(5 / 6)
    assert (rows[3]["test/top1"], rows[3]["source"]) == (0.45, "a thesis")
    assert "test/top5" not in rows[3]


def test_the_better_of_two_neighbours_has_the_test_between_them(workspace, compute):
    better = compare(workspace, compute).rows[1]
    # all six right against three: 3 to 0, 2 / 2^3
    assert (better["mcnemar/next"], better["mcnemar/b"], better["mcnemar/c"]) == ("small", 3, 0)
    assert better["mcnemar/p"] == pytest.approx(0.25)


def test_rows_follow_the_cells_asked_for_and_hold_no_times(workspace, compute):
    comparison = compare(workspace, compute, cells=["round"])
    assert [row["cell"] for row in comparison.rows] == ["round", "chance", "A net"]
    assert comparison.rows == compare(workspace, compute, cells=["round"]).rows
    assert set(comparison.throughput) == {"round/images_per_second_batch1", "round/images_per_second_batch2"}


def test_what_a_cell_is_built_on_is_in_its_row(workspace, compute):
    row = compare(workspace, compute, cells=["round"], start="classifiers/small").rows[0]
    assert row["built_on"] == "small"


def test_answers_to_other_images_are_not_compared(workspace, compute):
    write_answers(workspace, "round", labels=np.zeros(6, dtype=np.int64), num_right=6)
    with pytest.raises(InputError, match=r"round\.npz: its test images are not those of .*small\.npz"):
        compare(workspace, compute)


def test_a_missing_checkpoint_or_metrics_file_is_named(workspace, compute):
    with pytest.raises(InputError, match=r"gone/0\.pt: no such file"):
        compare(workspace, compute, cells=["gone"])
    workspace.metrics("evaluate_classifier", "small").write_text("{}")
    with pytest.raises(InputError, match=r"small\.json: expected metrics with test/top1"):
        compare(workspace, compute)
    workspace.metrics("evaluate_classifier", "small").unlink()
    with pytest.raises(InputError, match=r"small\.json: no such file"):
        compare(workspace, compute)


def test_chance_is_the_share_of_the_classes_most_common_in_train(make_images):
    """Of even classes 1 / k. Else a constant answer is right more often, and small classes do not hide that."""
    images = make_images(8, num_per_class=2)
    even = chance_row(images)
    assert (even["test/top1"], even["val/top1"], even["test/top5"]) == (1 / 8, 1 / 8, 5 / 8)

    def uneven(split):
        labels = np.array([3] * 9 + [2] + list(range(6)))
        return replace(split, labels=labels, images=split.images[:16], ids=split.ids[:16])

    row = chance_row(replace(images, train=uneven(images.train), test=uneven(images.test)))
    assert (row["test/top1"], row["val/top1"]) == (10 / 16, 1 / 8)
    assert row["test/top5"] == 15 / 16  # classes 3 (ten), 2 (two), and three with one image each
