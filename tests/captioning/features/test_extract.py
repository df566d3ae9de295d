import io
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seesay.captioning.data.records import CaptionImages, CaptionRecord
from seesay.captioning.features.encoders import FeatureEncoder, load_feature_encoder
from seesay.captioning.features.extract import extract_features
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.pixels import resize_and_crop

COMPUTE = Compute(torch.device("cpu"), None, num_threads=1, deterministic=True, compile=False)


class MeanColour(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3)), images


class KeptRows:
    """Rows in memory, of which some may be there already."""

    def __init__(self, num_done=0):
        self.num_done = num_done
        self.starts = []
        self.features = []

    def write(self, start, features):
        self.starts.append(start)
        self.features.append(features)

    def all(self, kind="pooled"):
        return np.concatenate([features[kind] for features in self.features]) if self.features else None


def mean_colour(grid_size=None):
    black, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return FeatureEncoder(MeanColour(), num_dimensions=3, grid_size=grid_size, mean=black, std=one)


def extract(images, *, rows=None, encoder=None, compute=COMPUTE, **changes):
    rows = KeptRows() if rows is None else rows
    settings = {"image_size": 32, "resize_size": 32, "batch_size": 4, "num_workers": 2, **changes}
    extract_features(mean_colour() if encoder is None else encoder, images, rows, **settings, compute=compute)
    return rows.all()


def grey(level, size=(32, 32)):
    return Image.new("RGB", size, (level, level, level))


class SlowFirst:
    """Images whose first rows take longest to decode, so that workers finish out of order."""

    def __len__(self):
        return 23

    def __getitem__(self, row):
        time.sleep(0.02 if row % 5 == 0 else 0.0)
        return grey(row * 10)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_rows_are_in_the_order_of_the_images(num_workers, num_threads):
    compute = replace(COMPUTE, num_threads=num_threads)
    features = extract(SlowFirst(), num_workers=num_workers, compute=compute)
    assert features[:, 0].tolist() == pytest.approx([row * 10 / 255 for row in range(23)], abs=1e-6)


def noise(num_images, size=(40, 60, 3)):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)) for _ in range(num_images)]


def test_threads_and_workers_do_not_change_a_byte():
    images, settings = noise(7), {"image_size": 32, "resize_size": 36, "batch_size": 3}
    encoder = load_feature_encoder("small_cnn", None, grid_size=2)
    first = extract(images, encoder=encoder, **settings, num_workers=0)
    for num_threads, num_workers in ((1, 2), (2, 0), (4, 1)):
        compute = replace(COMPUTE, num_threads=num_threads)
        again = extract(images, encoder=encoder, **settings, num_workers=num_workers, compute=compute)
        assert np.array_equal(first, again)


def test_the_batch_size_does_not_change_the_features_beyond_rounding():
    encoder = load_feature_encoder("small_cnn", None, grid_size=2)
    one, all_at_once = (extract(noise(5), encoder=encoder, batch_size=size, num_workers=0) for size in (1, 5))
    np.testing.assert_allclose(one, all_at_once, atol=1e-5)


def test_rows_already_there_are_left_out_and_batches_stay_the_same():
    rows, images = KeptRows(num_done=8), [grey(10 * row) for row in range(11)]
    extract(images, rows=rows)
    assert rows.starts == [8]
    assert rows.all()[:, 0].tolist() == pytest.approx([80 / 255, 90 / 255, 100 / 255])
    extract(images, rows=(finished := KeptRows(num_done=11)))
    assert finished.starts == []


def test_the_caller_keeps_its_threads():
    torch.set_num_threads(2)
    extract([grey(1)], compute=replace(COMPUTE, num_threads=2))
    assert torch.get_num_threads() == 2


def test_images_without_a_grid_size_have_no_grid():
    rows = KeptRows()
    extract([grey(1)], rows=rows)
    assert set(rows.features[0]) == {"pooled"}


def test_a_forked_worker_opens_its_files_anew(tmp_path):
    # Handles that both use would move each other's position in the archive.
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for row in range(30):
            buffer = io.BytesIO()
            grey(row * 8).save(buffer, "PNG")
            archive.writestr(f"{row}.png", buffer.getvalue())
    records = tuple(CaptionRecord(row, f"{row}.png", "images.zip", "train", ("a",), 32, 32) for row in range(30))
    images = CaptionImages(tmp_path, records)
    assert images[3].size == (32, 32)  # opens the archive in this process
    features = extract(images, batch_size=1, num_workers=2)
    assert features[:, 0].tolist() == pytest.approx([row * 8 / 255 for row in range(30)])


def test_proportions_are_kept():
    # A white 20 x 20 square in the middle of 80 x 40 pixels: at a shorter side of 80 it is 40 x 40, not squashed.
    image = Image.new("RGB", (80, 40))
    image.paste((255, 255, 255), (30, 10, 50, 30))
    pixels = resize_and_crop(image, image_size=80, resize_size=80)[:, :, 0] > 127
    assert pixels.shape == (80, 80)
    assert pixels.any(axis=1).sum() == 40
    assert pixels.any(axis=0).sum() == 40


def test_images_are_resized_as_the_encoder_expects():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    sizes = {"image_size": 40, "resize_size": 40}
    for name, filtered in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        expected = np.asarray(image.resize((40, 40), filtered))
        assert np.array_equal(resize_and_crop(image, **sizes, interpolation=name), expected)


def test_the_middle_is_kept():
    # Left and right eighths of 80 x 40 pixels are red; the middle half is what stays.
    image = Image.new("RGB", (80, 40), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 10, 40))
    image.paste((255, 0, 0), (70, 0, 80, 40))
    assert (resize_and_crop(image, image_size=40, resize_size=40) == (0, 0, 255)).all()


def test_tall_images_are_cropped_too():
    assert resize_and_crop(Image.new("RGB", (33, 71)), image_size=32, resize_size=40).shape == (32, 32, 3)


def test_a_square_image_loses_nothing():
    image = Image.new("RGB", (64, 64), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 64, 4))  # at the very edge
    assert (resize_and_crop(image, image_size=32, resize_size=40)[0] == (255, 0, 0)).all()


def test_an_image_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(resize_and_crop(Image.fromarray(pixels), image_size=32, resize_size=32), pixels)


def test_shrinking_averages_rather_than_skips():
    # Columns alternate black and white: antialiased they are grey, nearest-neighbour would give one of the two.
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, ::2] = 255
    assert (
        abs(resize_and_crop(Image.fromarray(pixels), image_size=32, resize_size=32).astype(int) - 127)[:, 2:-2].max()
        < 20
    )


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
