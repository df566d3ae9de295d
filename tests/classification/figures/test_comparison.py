import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from seesay.classification.figures.comparison import choose_samples, describe_regularisation, draw_comparison
from seesay.classification.figures.evaluation import choose_mistakes, draw_mistakes, draw_reliability, draw_roc
from seesay.classification.figures.ranking import draw_costs, draw_ranking, frontier, label_points
from seesay.classification.predictions import ClassPredictions, SplitPredictions
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.params.training import Augmentation
from seesay.plotting.style import new_figure, reduce_colours
from seesay.plotting.table import total_training_cost

ROWS = [
    {"cell": "a", "dataset": "d", "architecture": "mlp", "flops": 1e6, "num_parameters": 10, "test/top1": 0.5},
    {"cell": "b", "dataset": "d", "architecture": "x", "flops": 2e9, "num_parameters": 10**8, "test/top1": 0.6},
    {"cell": "chance", "dataset": "d", "architecture": "", "flops": 0, "num_parameters": 0, "test/top1": 0.1},
    {"cell": "theirs", "dataset": "d", "architecture": "", "source": "a paper", "test/top1": 0.55},
]
COSTLY = [
    *ROWS,
    {**ROWS[1], "cell": "c", "architecture": "pretrained", "network": "a_network", "test/top1": 0.7},
    {**ROWS[3], "cell": "sized", "num_parameters": 10**7},
    {**ROWS[3], "cell": "unrelated", "dataset": "imagenet", "num_parameters": 10**6},
]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]])
def test_rankings_draw_what_is_there(tmp_path, rows):
    draw_ranking(tmp_path / "ranking.svg", rows, dataset="d")
    ranking = (tmp_path / "ranking.svg").read_text()
    assert "mathdefault" not in ranking
    assert ("<!-- theirs -->" in ranking) == (len(rows) > 1)


def drawn_costs(folder, rows, core_seconds):
    """The figures that `draw_costs` says it has drawn, by name, with the text in them."""
    figures = draw_costs(folder, rows, core_seconds=core_seconds)
    assert {path.name for path in folder.glob("*.svg")} == {name for name, _ in figures}
    texts = {name: (folder / name).read_text() for name, _ in figures}
    assert "mathdefault" not in "".join(texts.values())
    return {name: set(re.findall(r"<!-- (.*?) -->", text)) for name, text in texts.items()}


def test_accuracy_is_drawn_against_minutes_and_against_size(tmp_path):
    figures = drawn_costs(tmp_path / "costs", COSTLY, {"a": 60.0, "b": 600.0})
    assert figures.keys() == {"minutes_d.svg", "parameters_d.svg", "published.svg"}
    assert {"theirs", "sized"} <= figures["minutes_d.svg"]
    assert "a_network" not in figures["minutes_d.svg"], "what it cost is not known"
    assert {"a_network", "theirs", "sized"} <= figures["parameters_d.svg"]


def test_results_on_other_tasks_have_axes_of_their_own(tmp_path):
    figures = drawn_costs(tmp_path / "costs", COSTLY, {"a": 60.0})
    assert {name for name, texts in figures.items() if "unrelated" in texts} == {"published.svg"}
    assert "imagenet: a paper" in figures["published.svg"]
    assert figures["published.svg"].isdisjoint({"theirs", "sized", "a_network"})


def test_without_times_or_with_few_classifiers_there_is_less_to_draw(tmp_path):
    assert drawn_costs(tmp_path / "untimed", COSTLY, {}).keys() == {"parameters_d.svg", "published.svg"}
    assert drawn_costs(tmp_path / "untimed", ROWS, {}) == {}, "and the earlier figures are gone"


def test_only_what_no_cheaper_one_equals_is_best_for_its_cost():
    points = [(1.0, 50.0, "a"), (2.0, 50.0, "b"), (3.0, 70.0, "c"), (3.0, 60.0, "d"), (4.0, 65.0, "e")]
    assert frontier(points) == [(1.0, 50.0), (3.0, 70.0)]


def test_what_a_classifier_is_built_on_counts_as_its_cost():
    rows = {
        "one": {"seeds/num": 3.0},
        "three": {"built_on": "one", "architecture": "ensemble"},
        "student": {"built_on": "three", "architecture": "resnet9"},
        "orphan": {"built_on": "gone", "architecture": "resnet9"},
    }
    own = {"one": 10.0, "three": 0.0, "student": 12.0, "orphan": 1.0}
    assert total_training_cost("one", own, rows) == 10.0
    assert total_training_cost("three", own, rows) == 30.0  # three networks of 10
    assert total_training_cost("student", own, rows) == 42.0
    assert total_training_cost("orphan", own, rows) is None
    assert total_training_cost("student", {"student": 12.0}, rows) is None


def test_names_of_close_points_hide_neither_each_other_nor_a_point():
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    points = [(1.0, 50.0 + 0.5 * n, f"a_classifier_{n}") for n in range(6)] + [(3.0, 80.0, "another")]
    axes.plot(*zip(*[point[:2] for point in points], strict=True), "o", linestyle="none")
    axes.set(xlim=(0, 4), ylim=(0, 100))
    boxes = [label.get_window_extent() for label in label_points(figure, axes, points)]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert not any(box.contains(*axes.transData.transform(point[:2])) for point in points)


def test_a_name_is_not_nearer_to_another_point_than_to_its_own():
    figure = Figure(figsize=(5, 6), layout="constrained")
    axes = figure.subplots()
    points = [(1.0, 74.0, "a_long_name"), (1.0, 73.9, "another_name"), (1.0, 70.0, "a_third")]
    axes.plot(*zip(*[point[:2] for point in points], strict=True), "o", linestyle="none")
    axes.set(xlim=(0, 4), ylim=(15, 90))
    labels = {label.get_text(): label.get_window_extent() for label in label_points(figure, axes, points)}
    centres = {name: axes.transData.transform((x, y)) for x, y, name in points}
    for name, box in labels.items():
        away = {
            other: np.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
            for other, (x, y) in centres.items()
        }
        assert away[name] <= min(away.values()) + 1.0, name


def test_few_colours_keep_flat_ones_and_a_small_mark():
    gradient = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(100, axis=0)
    gradient[:50] = 255
    gradient[:3, :3] = (213, 94, 0)
    shown = np.asarray(reduce_colours(Image.fromarray(gradient, "RGB")))
    assert shown[10, 10].tolist() == [255, 255, 255]
    assert shown[1, 1].tolist() == [213, 94, 0]
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 32


def test_a_picture_of_few_colours_stays_as_it_is():
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[0] = 9
    assert np.array_equal(np.asarray(reduce_colours(Image.fromarray(pixels, "RGB"))), pixels)


def test_a_plot_is_saved_as_svg_and_small_picture(tmp_path):
    with new_figure(tmp_path / "x.svg", width=2, height=1) as figure:
        figure.subplots()
    assert Image.open(tmp_path / "x.webp").size == (288, 144)  # one and a half times 96 pixels an inch


def split(logits, labels):
    return SplitPredictions(
        np.array(logits, dtype=np.float32), np.array(labels), ("ant", "bee", "cat")[: len(logits[0])]
    )


def test_mistakes_are_the_wrong_ones_with_the_highest_probability():
    # right; wrong at 0.73; wrong at 0.95; wrong at 0.73 again
    predictions = split([[9, 0], [1, 0], [3, 0], [0, 1]], [0, 1, 1, 0])
    assert choose_mistakes(predictions, 2).tolist() == [2, 1]
    assert choose_mistakes(predictions, 9).tolist() == [2, 1, 3]


def test_without_mistakes_there_is_no_panel_of_them(tmp_path):
    draw_mistakes(tmp_path / "m.webp", split([[9, 0]], [0]), None, ("ant", "bee"), title="t", count=3)
    assert not (tmp_path / "m.webp").exists()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 0], [0, 1, 2]])
def test_curves_of_any_number_of_measurable_classes_can_be_drawn(tmp_path, labels):
    predictions = split([[2, 1, 0], [0, 3, 1], [1, 2, 0]], labels)
    draw_roc(tmp_path / "roc.svg", predictions, ("ant", "bee", "cat"), title="t")
    draw_reliability(tmp_path / "reliability.svg", ClassPredictions(predictions, predictions), title="t")
    assert ("all images are of one class" in (tmp_path / "roc.svg").read_text()) == (set(labels) == {0})


def test_samples_are_of_the_class_and_the_same_each_time():
    labels = np.array([0, 1, 0, 1, 0, 0])
    chosen = choose_samples(labels, 0, 3, seed=0)
    assert set(labels[chosen]) == {0}
    assert len(set(chosen.tolist())) == 3
    assert choose_samples(labels, 0, 3, seed=0).tolist() == chosen.tolist()
    assert len(choose_samples(labels, 1, 9, seed=0)) == 2


def test_what_holds_overfitting_back_is_said_in_words(full_workspace):
    params, _ = full_workspace
    cell = params.classifiers["plain_cnn"]
    off = Augmentation()
    bare = Architecture(name="plain_cnn", dropout=0.0)
    only_dropout = {"augmentation": off, "architecture": Architecture(name="plain_cnn", dropout=0.2)}
    assert describe_regularisation(cell.model_copy(update=only_dropout)) == "dropout 0.2"
    only_flip = {"augmentation": Augmentation(flip=True), "architecture": bare}
    assert describe_regularisation(cell.model_copy(update=only_flip)) == "flip"
    nothing = {"augmentation": off, "architecture": bare}
    assert describe_regularisation(cell.model_copy(update=nothing)) == "no dropout, no augmentation"


def test_a_study_of_a_cell_that_is_not_there_is_refused_by_name(full_workspace):
    params, paths = full_workspace
    settings = params.comparison.model_copy(update={"overfitting_study": ("gone",)})
    with pytest.raises(InputError, match=r"comparison\.overfitting_study: got 'gone': expected one of mlp"):
        draw_comparison(paths.root / "f", [], {}, params.classifiers, paths, settings=settings)
