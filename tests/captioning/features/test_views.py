import numpy as np
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from seesay.captioning.features.views import ViewedImages
from seesay.params.datasets import Views
from seesay.params.training import ResizedCrop

WHOLE = ResizedCrop(min_area=1.0, max_area=1.0, max_aspect=1.0)
QUARTER = ResizedCrop(min_area=0.25, max_area=0.25, max_aspect=1.0)


def views(crop=QUARTER, count=2, flip=False, seed=0):
    return Views(count=count, crop=crop, flip=flip, seed=seed)


def ramp(size=(64, 64)):
    """Red grows from left to right, green from top to bottom, by as many levels as there are pixels."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None, :], np.arange(height)[:, None]
    return Image.fromarray(pixels)


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_images_come_first_and_then_one_view_of_each_after_the_other():
    images = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (10, 20, 30)]
    seen = ViewedImages(images, [0, 2], views(), size=4)
    assert len(seen) == 3 + 2 * 2
    assert [np.asarray(seen[row])[0, 0, 0] for row in range(len(seen))] == [10, 20, 30, 10, 30, 10, 30]
    assert seen[1] is images[1]
    assert {seen[row].size for row in range(3, 7)} == {(4, 4)}


def test_a_view_is_a_window_of_the_image_at_full_size():
    # A quarter of the area is half a side: 32 levels lie between a view's edges, wherever it is.
    seen = ViewedImages([ramp()], [0], views(count=20), size=64)
    corners = []
    for row in range(1, 21):
        pixels = np.asarray(seen[row]).astype(int)
        assert pixels[0, -1, 0] - pixels[0, 0, 0] == pytest.approx(32, abs=1)
        assert pixels[-1, 0, 1] - pixels[0, 0, 1] == pytest.approx(32, abs=1)
        corners.append((pixels[0, 0, 0], pixels[0, 0, 1]))
    assert len(set(corners)) > 15
    assert min(min(corner) for corner in corners) < 8
    assert max(max(corner) for corner in corners) > 24


def test_a_window_of_an_oblong_image_keeps_the_images_proportions_of_sides():
    seen = ViewedImages([ramp((200, 100))], [0], views(count=1), size=50)
    pixels = np.asarray(seen[1]).astype(int)
    assert pixels[0, -1, 0] - pixels[0, 0, 0] == pytest.approx(100, abs=4)
    assert pixels[-1, 0, 1] - pixels[0, 0, 1] == pytest.approx(50, abs=2)


def test_the_whole_image_is_seen_where_the_window_is_all_of_it():
    image = ramp()
    assert same(ViewedImages([image], [0], views(WHOLE), size=64)[1], image)


def test_about_half_of_the_views_are_mirrored_and_none_without_flip():
    image = ramp()
    mirrored = ImageOps.mirror(image)
    flipped = ViewedImages([image], [0], views(WHOLE, count=200, flip=True), size=64)
    num_mirrored = sum(same(flipped[row], mirrored) for row in range(1, 201))
    assert sum(same(flipped[row], image) for row in range(1, 201)) == 200 - num_mirrored
    assert 70 < num_mirrored < 130
    upright = ViewedImages([image], [0], views(WHOLE, count=200), size=64)
    assert all(same(upright[row], image) for row in range(1, 201))


def test_a_view_depends_on_image_number_and_seed_and_not_on_the_order():
    images = [ramp(), ramp()]
    seen, again = (ViewedImages(images, [0, 1], views(), size=64) for _ in range(2))
    expected = [np.asarray(seen[row]) for row in range(2, 6)]
    for row in (5, 3, 4, 2):
        assert same(again[row], expected[row - 2])
    assert len({pixels.tobytes() for pixels in expected}) == 4
    other = ViewedImages(images, [0, 1], views(seed=1), size=64)
    assert not any(same(other[row], expected[row - 2]) for row in range(2, 6))


@pytest.mark.parametrize("change", [{"count": 0}, {"seed": -1}, {"flip": 0.5}])
def test_settings_that_mean_nothing_are_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        Views.model_validate({**views().model_dump(), **change})
