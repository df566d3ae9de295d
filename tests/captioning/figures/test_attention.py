import numpy as np
from PIL import Image

from seesay.captioning.explain import CaptionAttention
from seesay.captioning.figures.attention import TILE, draw_attention, draw_attention_cases, encoder_crop, highlight
from seesay.core.files import read_json
from seesay.params.results import Evaluation

GREY = Image.new("RGB", (320, 240), (200, 200, 200))
SETTINGS = Evaluation(batch_size=8, panel_images=6, panel_seed=0, bootstrap_resamples=10, bootstrap_seed=0)


def test_attention_on_the_top_left_lights_the_top_left_of_the_image(tmp_path):
    weights = np.zeros((1, 49))
    weights[0, 0] = 1.0
    draw_attention(tmp_path / "s.webp", GREY, ["dog"], weights, crop_share=1.0)
    with Image.open(tmp_path / "s.webp") as strip:
        pixels = np.asarray(strip.convert("L"), dtype=float)
    tile = pixels[6 : 6 + TILE, 6 + TILE + 6 :][:, :TILE]  # the second tile; six pixels lie between tiles
    assert tile[:10, :10].mean() > 150
    assert tile[60:, 60:].mean() < 100
    assert tile[60:, :10].mean() < 100
    assert tile[:10, 60:].mean() < 100


def test_the_encoder_saw_the_middle_of_a_wide_image():
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    middle = np.asarray(encoder_crop(wide, 1.0, 28))
    assert (middle == (0, 0, 255)).all()


def test_of_a_smaller_crop_the_border_is_not_shown():
    framed = Image.new("RGB", (100, 100), "red")
    framed.paste((0, 0, 255), (10, 10, 90, 90))
    assert (np.asarray(encoder_crop(framed, 0.8, 28)) == (0, 0, 255)).all()
    assert not (np.asarray(encoder_crop(framed, 1.0, 28)) == (0, 0, 255)).all()


def test_where_all_is_looked_at_the_image_keeps_its_colours():
    square = Image.effect_noise((28, 28), 60).convert("RGB")
    assert np.array_equal(np.asarray(highlight(square, np.ones((28, 28)))), np.asarray(square))


def test_a_caption_without_a_word_shows_the_image_alone(tmp_path):
    draw_attention(tmp_path / "s.webp", GREY, [], np.zeros((0, 49)), crop_share=1.0)
    with Image.open(tmp_path / "s.webp") as strip:
        assert strip.width == TILE + 12


def test_a_strip_is_the_same_each_time(tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(49), size=9)
    for name in ("one.webp", "two.webp"):
        draw_attention(tmp_path / name, GREY, [f"word{n}" * 4 for n in range(9)], weights, crop_share=0.9)
    assert (tmp_path / "one.webp").read_bytes() == (tmp_path / "two.webp").read_bytes()
    assert (tmp_path / "one.webp").stat().st_size < 20_000


def test_of_a_captioner_without_places_the_figures_say_why_there_are_none(tmp_path):
    class NoRecords:
        records = ()

        def rows(self, split):
            return []

    draw_attention_cases(tmp_path / "x", CaptionAttention("pooled", 1.0, {}, {}), NoRecords(), [], settings=SETTINGS)
    content = read_json(tmp_path / "x/attention.json")
    assert content["cases"] == []
    assert "pooled features" in content["note"]


def test_strips_come_with_their_words_and_the_spread_of_each(built_once):
    content = read_json(built_once / "reports/figures/explain_captioner/lstm_flickr8k/attention.json")
    assert content["looks_at"] == "grid"
    for case in content["cases"]:
        assert len(case["words"]) == len(case["entropy_bits"]) > 0
        # half the weight on one place, the rest over 49: 0.5 log2(1/0.51) + 0.5 log2(98) is about 3.8
        assert all(3.5 < bits < 4.0 for bits in case["entropy_bits"])
