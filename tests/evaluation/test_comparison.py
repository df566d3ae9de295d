import pytest

from seesay.data.packed_images import read_manifest, write_packed_images
from seesay.errors import InputError
from seesay.evaluation.comparison import compare_classifiers, count_flops
from seesay.files import write_json
from seesay.models.checkpoint import Checkpoint, describe_architecture, save_checkpoint
from seesay.models.classifiers import build_classifier
from seesay.params.experiments import Architecture
from seesay.params.results import Comparison
from seesay.paths import Paths

SETTINGS = Comparison(throughput_batch_size=2, throughput_repeats=3)
ARCHITECTURES = {
    "small": Architecture(name="mlp", hidden_sizes=[4], dropout=0.0),
    "round": Architecture(name="resnet9", width=2),
}


@pytest.fixture
def workspace(tmp_path, make_images):
    """Two trained cells on a dataset of six classes."""
    paths, images = Paths(tmp_path), make_images(6, num_per_class=1)
    write_packed_images(paths.images("tiny"), images)
    sizes = {"num_classes": 6, "image_size": images.image_size}
    for cell, architecture in ARCHITECTURES.items():
        classifier = build_classifier(architecture, **sizes, seed=0, key="x")
        checkpoint = Checkpoint(
            kind="classifier",
            dataset="tiny",
            dataset_digest=images.digest,
            classes=tuple(one.wnid for one in images.classes),
            vocabulary_digest="",
            architecture=describe_architecture(architecture),
            sizes=sizes,
            settings={},
            normalisation={},
            state_dict=classifier.state_dict(),
            metrics={},
        )
        save_checkpoint(paths.classifier(cell), checkpoint)
        metrics = {"test/top1": 0.5, "test/top5": 0.9, "val/top1": 0.4, "test/loss": 1.0}
        write_json(paths.metrics("evaluate_classifier", cell), metrics)
    return paths


def compare(paths, compute, cells=tuple(ARCHITECTURES)):
    manifests = {"tiny": read_manifest(paths.images("tiny"))}
    return compare_classifiers(cells, manifests, paths, SETTINGS, compute=compute)


def test_a_row_per_cell_and_one_for_chance(workspace, compute):
    rows = compare(workspace, compute).rows
    assert [row["cell"] for row in rows] == ["small", "round", "chance"]
    # 16 * 16 * 3 = 768 inputs: weights 768 * 4 + 4 * 6, biases 4 + 6; two operations per weight
    assert rows[0] == {
        "cell": "small",
        "dataset": "tiny",
        "architecture": "mlp",
        "num_classes": 6,
        "num_parameters": 768 * 4 + 4 * 6 + 10,
        "flops": 2 * (768 * 4 + 4 * 6),
        "substitutes": ["a.zip"],
        "test/top1": 0.5,
        "test/top5": 0.9,
        "val/top1": 0.4,
    }
    assert rows[-1]["test/top1"] == pytest.approx(1 / 6)
    assert rows[-1]["test/top5"] == pytest.approx(5 / 6)
    assert set(rows[-1]) == set(rows[0])


def test_rows_follow_the_cells_asked_for_and_hold_no_times(workspace, compute):
    comparison = compare(workspace, compute, cells=["round"])
    assert [row["cell"] for row in comparison.rows] == ["round", "chance"]
    assert comparison.rows == compare(workspace, compute, cells=["round"]).rows
    assert list(comparison.throughput) == ["round/images_per_second"]
    assert comparison.throughput["round/images_per_second"] > 0


def test_the_network_of_the_publication_costs_95_million_multiply_adds():
    architecture = Architecture(name="resnet9", width=32)
    classifier = build_classifier(architecture, num_classes=30, image_size=64, seed=0, key="x").eval()
    assert count_flops(classifier, image_size=64) == 2 * 95_264_256


def test_a_missing_checkpoint_or_metrics_file_is_named(workspace, compute):
    with pytest.raises(InputError, match=r"gone\.pt: no such file"):
        compare(workspace, compute, cells=["gone"])
    workspace.metrics("evaluate_classifier", "small").write_text("{}")
    with pytest.raises(InputError, match=r"small\.json: expected metrics with test/top1"):
        compare(workspace, compute)
    workspace.metrics("evaluate_classifier", "small").unlink()
    with pytest.raises(InputError, match=r"small\.json: no such file"):
        compare(workspace, compute)
