"""Figures of explanations, drawn from made-up arrays."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from seesay.classification.class_maps import ClassMaps
from seesay.classification.explain import Explanation, Filters, LayerMaps
from seesay.classification.figures import explanation as explanation_figures
from seesay.classification.figures.explanation import draw_explanation, explained_by, heat, overlaid
from seesay.classification.predictions import SplitPredictions
from seesay.images.packed import ImageClass, ImageSplit, PackedImages
from seesay.params.results import Evaluation
from seesay.sources.provenance import SourceNote

SIZE = 16
CLASSES = tuple(ImageClass(f"n{number:08}", word) for number, word in enumerate(["fly", "African elephant", "$x$"]))
SETTINGS = Evaluation.model_construct(batch_size=8, panel_images=6, panel_seed=0)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (9, SIZE, SIZE, 3)).astype(np.uint8)
    split = ImageSplit(pixels, np.arange(9) % 3, tuple(map(str, range(9))))
    return PackedImages(split, split, split, CLASSES, SIZE, (0.5,) * 3, (0.2,) * 3, "tiny", "", SourceNote("x", ()))


def predictions(images, num_wrong):
    """Of the first `num_wrong` images the class after the true one is predicted."""
    labels = images.test.labels
    logits = np.zeros((len(labels), 3), dtype=np.float32)
    logits[np.arange(len(labels)), (labels + (np.arange(len(labels)) < num_wrong)) % 3] = 2
    return SplitPredictions(logits, labels, tuple(one.label for one in CLASSES))


def explanation(chosen):
    random = np.random.default_rng(1)
    maps = ClassMaps(True, 1, random.random((len(chosen), SIZE, SIZE), dtype=np.float32))
    filters = Filters(random.random((5, 3, 3, 3), dtype=np.float32), 5, is_convolution=True)
    layers = [LayerMaps(1, 4, 6, random.random((6, 8, 8))), LayerMaps(4, 4, 32, random.random((8, 2, 2)))]
    return Explanation(np.array(chosen), maps, maps, filters, layers)


def draw(folder, what, test, images):
    draw_explanation(folder, what, test, images, cell="resnet9", settings=SETTINGS)
    return {path.name: Image.open(path).size for path in folder.glob("*.webp")}


def test_wrong_answers_get_a_row_more_than_right_ones(tmp_path, images):
    right = draw(tmp_path / "right", explanation([5, 6]), predictions(images, 0), images)["gradcam.webp"]
    wrong = draw(tmp_path / "wrong", explanation([5, 6]), predictions(images, 9), images)["gradcam.webp"]
    both = draw(tmp_path / "both", explanation([5, 6]), predictions(images, 6), images)["gradcam.webp"]
    row = wrong[1] - right[1]
    assert row > explanation_figures._SIDE
    assert both[0] < wrong[0]  # one column, more lines of title
    assert both[1] > right[1] + 3 * row - 1


def test_more_examples_than_columns_go_on_below(tmp_path, images):
    four = draw(tmp_path / "four", explanation([0, 1, 2, 3]), predictions(images, 0), images)["gradcam.webp"]
    five = draw(tmp_path / "five", explanation([0, 1, 2, 3, 4]), predictions(images, 0), images)["gradcam.webp"]
    assert five[0] == four[0]
    assert five[1] > four[1] + 2 * explanation_figures._SIDE


def test_what_a_network_has_not_is_left_out(tmp_path, images):
    whole = explanation([0, 8])
    assert set(draw(tmp_path / "a", whole, predictions(images, 3), images)) == {
        "gradcam.webp",
        "filters.webp",
        "activations.webp",
    }
    bare = dataclasses.replace(whole, filters=None, layers=[])
    assert set(draw(tmp_path / "a", bare, predictions(images, 3), images)) == {"gradcam.webp"}


def test_equal_explanations_give_equal_bytes(tmp_path, images):
    for name in ("a", "b"):
        draw(tmp_path / name, explanation([0, 8]), predictions(images, 3), images)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_title_says_when_it_is_no_grad_cam_and_of_how_many_networks():
    maps = np.zeros((1, 2, 2), dtype=np.float32)
    assert explained_by(ClassMaps(True, 1, maps)) == "Grad-CAM. Yellow is the strongest evidence for"
    assert "mean of 3 networks" in explained_by(ClassMaps(True, 3, maps))
    assert explained_by(ClassMaps(False, 1, maps)).startswith("gradient at the input (no convolution, no Grad-CAM)")


def test_heat_goes_from_dark_blue_to_yellow():
    dark, bright = heat(np.array([[0.0, 1.0]]))[0].astype(int)
    assert dark.sum() < 200
    assert dark[2] == max(dark)
    assert bright.sum() > 400
    assert bright[2] == min(bright)


def test_where_a_map_is_high_the_picture_is_yellow():
    values = np.zeros((2, 2), dtype=np.float32)
    values[0, 0] = 1
    pixels = np.asarray(overlaid(Image.new("RGB", (64, 64), "white"), values)).astype(int)
    assert pixels[0, 0, 0] > pixels[-1, -1, 0] + 50
    assert pixels[0, 0, 2] < pixels[0, 0, 0]


def test_drawing_needs_no_torch():
    code = "import sys, seesay.classification.figures.explanation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
