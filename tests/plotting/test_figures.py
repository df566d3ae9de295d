import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from seesay.autoencoding.figures.reconstructions import absolute_error
from seesay.captioning.figures.captions import choose_cases, draw_scores
from seesay.classification.figures.evaluation import choose_examples, confusion_percent, draw_confusion
from seesay.core.errors import InputError
from seesay.core.files import write_json, write_text
from seesay.core.paths import Paths
from seesay.plotting.curves import _draw_quantity, draw_curves, read_history
from seesay.plotting.embed import read_picture, read_tiles
from seesay.plotting.panels import Tile, draw_panel, letterbox
from seesay.plotting.style import BLUE, VERMILION, new_figure

HISTORY = "step,train/loss,val/loss,val/top1\n1,3.0,2.5,0.2\n2,2.0,1.5,0.4\n3,1.0,1.5,0.5\n"


def history_of(root, text=HISTORY, *, best_epoch=2.0):
    """Write the files of a training, and read them."""
    paths = Paths(root)
    write_text(paths.table("train_classifier", "cell", "history"), text)
    write_json(paths.metrics("train_classifier", "cell"), {"best_epoch": best_epoch})
    return read_history(paths, "train_classifier", "cell")


def test_every_stage_leaves_the_figures_the_page_shows(built_once):
    figures = built_once / "reports/figures"
    names = {str(path.relative_to(figures)) for path in figures.rglob("*") if path.is_file()}
    assert {
        "evaluate_classifier/resnet9/curves.svg",
        "evaluate_classifier/resnet9/confusion.svg",
        "evaluate_classifier/resnet9/roc.svg",
        "evaluate_classifier/resnet9/reliability.svg",
        "evaluate_classifier/resnet9/predictions.webp",
        "evaluate_classifier/resnet9/mistakes.webp",
        "compare_classifiers/ranking_tiny30.svg",
        "compare_classifiers/samples_tiny30.webp",
        "compare_classifiers/overfitting.svg",
        "evaluate_autoencoder/conv/curves.svg",
        "evaluate_autoencoder/conv/reconstructions.webp",
        "score_captions/lstm_flickr8k/curves.svg",
        "score_captions/lstm_flickr8k/scores.svg",
        "score_captions/lstm_flickr8k/captions.webp",
        "score_captions/lstm_flickr8k/captions.json",
        "explain_captioner/lstm_flickr8k/attention.json",
        "compare_captioners/ranking_flickr8k.svg",
        "compare_captioners/cases.json",
    } <= names
    assert not [name for name in names if "/." in name], "left over from an atomic write"
    assert not {name for name in names if name.endswith(".svg")} - {
        name.removesuffix(".webp") + ".svg" for name in names if name.endswith(".webp")
    }, "each plot has a small picture beside it"


def test_figures_hold_no_time_and_no_path(built_once):
    for path in (built_once / "reports/figures").rglob("*.svg"):
        text = path.read_text()
        assert str(built_once) not in text
        assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\d", text), path


# In a process of its own each time: the ids in an SVG must not depend on what was drawn before.
DRAW = """
import sys
from pathlib import Path
from seesay.core.paths import Paths
from seesay.plotting.curves import draw_curves, read_history
from seesay.plotting.panels import Tile, draw_panel
from PIL import Image
folder = Path(sys.argv[1])
draw_curves(folder / "curves.svg", read_history(Paths(folder), "train_classifier", "cell"), title="a cell")
tile = Tile(Image.new("RGB", (8, 8), "red"), (("word", "black"),))
draw_panel(folder / "panel.webp", [tile], title="t", columns=1, side=64)
assert "torch" not in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def test_equal_data_gives_equal_bytes_in_another_process(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        history_of(folder)
        subprocess.run([sys.executable, "-c", DRAW, folder], check=True)
    for name in ("curves.svg", "curves.webp", "panel.webp"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_users_own_matplotlib_settings_have_no_say(tmp_path):
    import matplotlib

    history = history_of(tmp_path)
    draw_curves(tmp_path / "plain.svg", history, title="a cell")
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "pink", "svg.hashsalt": "mine"}):
        draw_curves(tmp_path / "pink.svg", history, title="a cell")
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "pink.svg").read_bytes()


def test_the_best_epoch_is_the_one_in_the_metrics(tmp_path):
    """val/loss is lowest in epoch 2; a captioner may have been chosen by another score."""
    for best in (2, 3):
        draw_curves(tmp_path / "curves.svg", history_of(tmp_path, best_epoch=float(best)), title="a cell")
        assert re.findall(r"best epoch \(\d+\)", (tmp_path / "curves.svg").read_text()) == [f"best epoch ({best})"] * 2


@pytest.mark.parametrize("best_epoch", [None, 4.0, "3"])
def test_a_best_epoch_that_is_no_step_is_refused_by_name(tmp_path, best_epoch):
    with pytest.raises(InputError, match=r"train_classifier/cell\.json: best_epoch: got "):
        history_of(tmp_path, best_epoch=best_epoch)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "step,val/loss\n",
        "epoch,val/loss\n1,2\n",
        "step,train/loss\n1,2\n",
        "step,val/loss\n1,x\n",
        "step,val/loss\n1\n",
    ],
)
def test_a_damaged_history_is_refused_by_name(tmp_path, text):
    with pytest.raises(InputError, match=r"history\.csv"):
        history_of(tmp_path, text)


def test_confusion_is_in_percent_of_each_true_class():
    labels, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1])
    # class 0: 3 of 4 right; class 1: 1 of 1; class 2 has no image
    assert confusion_percent(labels, predicted, 3).tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]


@pytest.mark.parametrize("num_classes", [2, 200])
def test_a_confusion_matrix_of_few_or_many_classes_can_be_drawn(tmp_path, num_classes):
    labels = np.arange(num_classes)
    draw_confusion(tmp_path / "c.svg", labels, labels, [f"$class {n}$" for n in labels], title="t")
    assert (tmp_path / "c.svg").stat().st_size > 1000


def test_examples_are_half_right_and_half_wrong_as_far_as_there_are():
    is_right = np.array([True] * 10 + [False] * 3)
    assert is_right[choose_examples(is_right, 4, seed=0)].tolist() == [True, True, False, False]
    assert is_right[choose_examples(is_right, 10, seed=0)].sum() == 7  # only three are wrong
    assert len(choose_examples(is_right, 50, seed=0)) == 13
    assert choose_examples(is_right, 4, seed=1).tolist() != choose_examples(is_right, 4, seed=2).tolist()


def test_cases_are_the_best_the_worst_and_random_others():
    per_image = {number: number / 10 for number in range(10)}
    chosen = choose_cases(per_image, 6, seed=0)
    assert [image for kind, image in chosen if kind == "best"] == [9, 8]
    assert [image for kind, image in chosen if kind == "worst"] == [1, 0]
    between = [image for kind, image in chosen if kind == "random"]
    assert len(between) == 2
    assert set(between) <= {2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_no_image_is_a_case_twice(count):
    chosen = [image for _, image in choose_cases(dict.fromkeys(range(7), 0.0), count, seed=0)]
    assert len(chosen) == len(set(chosen)) == min(count, 7)


def test_the_error_image_is_the_distance_times_the_gain():
    inputs, outputs = np.array([[[[10, 200, 0]]]], dtype=np.uint8), np.array([[[[15, 190, 255]]]], dtype=np.uint8)
    assert absolute_error(inputs, outputs, gain=4).tolist() == [[[[20, 40, 255]]]]  # 4x5, 4x10, clipped


def test_pictures_keep_their_aspect():
    square = letterbox(Image.new("RGB", (200, 100), "black"), 50)
    pixels = np.asarray(square)
    assert square.size == (50, 50)
    assert pixels[25, 25].tolist() == [0, 0, 0]
    assert pixels[5, 25].tolist() == [255, 255, 255]


def test_a_history_of_one_measurement_is_drawn_in_words(tmp_path):
    history = history_of(tmp_path, "step,val/loss,val/top1,val/top5\n0,0.91,0.752,0.95\n", best_epoch=0.0)
    draw_curves(tmp_path / "curves.svg", history, title="an ensemble")
    text = (tmp_path / "curves.svg").read_text()
    assert "Not trained" in text
    assert "val top-1 accuracy: 75.2 %" in text


def test_scores_draw_what_is_there(tmp_path):
    draw_scores(tmp_path / "scores.svg", {"test": {"cider_d": 0.0}}, title="t")
    assert "mathdefault" not in (tmp_path / "scores.svg").read_text()


@pytest.mark.parametrize("dpi", [72, 100, 144])
def test_long_titles_are_not_cut_off(tmp_path, dpi):
    name = "soft_attention_views_reward_coco2017_flickr8k on coco2017"
    with new_figure(tmp_path / "x.svg", width=4.2, height=3) as figure:
        title = figure.suptitle(name, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots()
        axes.set_title(f"{name}: confusion matrix", loc="left")
        short = axes.set_xlabel("epoch").get_fontsize()
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    heading = next(
        text for text in axes.get_children() if isinstance(text, Text) and text.get_text().endswith("matrix")
    )
    assert all(text.get_window_extent().x1 <= figure.bbox.width for text in (title, heading))
    assert axes.xaxis.label.get_fontsize() == short


def test_a_panel_is_images_with_text_on_a_page(tmp_path):
    """The picture has the images without gaps, and the texts are text, with what their colours mean."""
    red, blue, blank = (Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#0000ff", "white"))
    tiles = [
        Tile(red, (("✓ 90 % cat", BLUE), ("", "black"))),
        Tile(blue, (("✗ 60 % dog", VERMILION), ("true: cat", "black"))),
        Tile(blue, ()),
        Tile(blank, ()),
    ]
    path = tmp_path / "panel.webp"
    draw_panel(path, tiles, title="mlp", columns=2, side=64, row_names=("image", "output"))
    panel = read_picture(path, "Test images")
    assert (panel.columns, panel.rows, panel.row_names, panel.title) == (2, 2, ("image", "output"), "mlp")
    assert [(tile.column, tile.row, tile.lines) for tile in panel.tiles] == [
        (0, 0, (("✓ 90 % cat", "right"),)),
        (1, 0, (("✗ 60 % dog", "wrong"), ("true: cat", ""))),
        (0, 1, ()),
    ]
    assert [tile.description for tile in panel.tiles] == [
        "image, ✓ 90 % cat",
        "image, ✗ 60 % dog, true: cat",
        "output",
    ]
    with Image.open(io.BytesIO(base64.b64decode(panel.source.partition(",")[2]))) as sprite:
        assert sprite.size == (128, 128)
        assert sprite.getpixel((32, 32))[0] > 200, "red"
        assert sprite.getpixel((96, 32))[2] > 200, "blue"
    assert [text for _, text in read_tiles(path, num_rows=2)] == ["✓ 90 % cat", "output"]


def test_curves_name_the_metric_as_the_field_does(tmp_path):
    history = history_of(tmp_path, "step,val/loss,val/cider_d\n1,2.0,0.3\n2,1.5,0.4\n")
    figure = Figure()
    _draw_quantity(figure.subplots(), history, "cider_d")
    assert figure.axes[0].get_title() == "CIDEr-D"
