import io
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seesay.compute import Compute
from seesay.errors import InputError
from seesay.models.encoder import Encoder, load_encoder
from seesay.models.extraction import extract_features, prepare

COMPUTE = Compute(torch.device("cpu"), torch.bfloat16, num_threads=1, deterministic=True, compile=False)


class MeanColour(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def extract(images, **changes):
    encoder = Encoder(MeanColour(), num_dimensions=3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    settings = {"image_size": 32, "resize_size": 32, "batch_size": 4, "num_workers": 2, **changes}
    return extract_features(encoder, images, **settings, compute=COMPUTE)


def grey(level, size=(32, 32)):
    return Image.new("RGB", size, (level, level, level))


class SlowFirst:
    """Images whose first rows take longest to decode, so that workers finish out of order."""

    def __len__(self):
        return 23

    def __getitem__(self, row):
        time.sleep(0.02 if row % 5 == 0 else 0.0)
        return grey(row * 10)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_rows_are_in_the_order_of_the_images(num_workers):
    features = extract(SlowFirst(), num_workers=num_workers)
    assert features.dtype == np.float16
    assert features[:, 0].tolist() == pytest.approx([row * 10 / 255 for row in range(23)], abs=1e-3)


def test_batch_size_and_workers_do_not_change_the_features():
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(7)]
    encoder = load_encoder("small_cnn", None)
    settings = {"image_size": 32, "resize_size": 36, "compute": COMPUTE}
    first = extract_features(encoder, images, **settings, batch_size=7, num_workers=0)
    second = extract_features(encoder, images, **settings, batch_size=3, num_workers=2)
    np.testing.assert_allclose(first.astype(float), second.astype(float), atol=2e-3)
    assert np.array_equal(second, extract_features(encoder, images, **settings, batch_size=3, num_workers=2))


def test_proportions_are_kept():
    # A white 20 x 20 square in the middle of 80 x 40 pixels: at a shorter side of 80 it is 40 x 40, not squashed.
    image = Image.new("RGB", (80, 40))
    image.paste((255, 255, 255), (30, 10, 50, 30))
    pixels = prepare(image, image_size=80, resize_size=80)[:, :, 0] > 127
    assert pixels.shape == (80, 80)
    assert pixels.any(axis=1).sum() == 40
    assert pixels.any(axis=0).sum() == 40


def test_the_middle_is_kept():
    # Left and right eighths of 80 x 40 pixels are red; the middle half is what stays.
    image = Image.new("RGB", (80, 40), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 10, 40))
    image.paste((255, 0, 0), (70, 0, 80, 40))
    assert (prepare(image, image_size=40, resize_size=40) == (0, 0, 255)).all()


def test_tall_images_are_cropped_too():
    assert prepare(Image.new("RGB", (33, 71)), image_size=32, resize_size=40).shape == (32, 32, 3)


def test_a_square_image_loses_nothing():
    image = Image.new("RGB", (64, 64), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 64, 4))  # at the very edge
    assert (prepare(image, image_size=32, resize_size=40)[0] == (255, 0, 0)).all()


def test_an_image_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(prepare(Image.fromarray(pixels), image_size=32, resize_size=32), pixels)


def test_shrinking_averages_rather_than_skips():
    # Columns alternate black and white: antialiased they are grey, nearest-neighbour would give one of the two.
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, ::2] = 255
    assert abs(prepare(Image.fromarray(pixels), image_size=32, resize_size=32).astype(int) - 127)[:, 2:-2].max() < 20


def test_features_do_not_depend_on_the_precision_of_training():
    assert extract([grey(101)]).tolist() == extract([grey(101)], batch_size=1).tolist()
    assert extract([grey(101)])[0, 0] == np.float16(101 / 255)  # bfloat16 would give 0.3965


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_cannot_be_decoded_ends_it_with_its_name(num_workers):
    class OneBroken:
        def __len__(self):
            return 9

        def __getitem__(self, row):
            if row == 5:
                raise InputError("images.zip: 5.jpg: not a decodable image")
            return grey(row)

    with pytest.raises(InputError, match=r"images\.zip: 5\.jpg"):
        extract(OneBroken(), num_workers=num_workers)


def test_jpeg_in_features_out():
    buffer = io.BytesIO()
    grey(200, (50, 40)).save(buffer, "JPEG")
    assert extract([Image.open(buffer).convert("RGB")])[0].tolist() == pytest.approx([200 / 255] * 3, abs=0.01)
