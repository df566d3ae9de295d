import math

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from seesay.autoencoding.reconstruct import (
    evaluation_masks,
    masked_mse,
    mean_image_mse,
    mean_psnr,
    psnr_from_mse,
    reconstruct,
    score_reconstructions,
)
from seesay.images.packed import ImageSplit
from seesay.params.autoencoding import Masking


class Dimmed(nn.Module):
    """Draws what it is shown, darker; what is hidden from it it draws black."""

    def __init__(self, loss_of_light=0.0):
        super().__init__()
        self.loss_of_light = loss_of_light

    def forward(self, images, hidden=None):
        shown = images if hidden is None else images.masked_fill(hidden, 0.0)
        return shown - self.loss_of_light


@pytest.fixture
def hand_made():
    """Test images 0, 0.2 and a ramp, and drawn ones that are wrong by 0.1, everywhere by 0.2, and by an edge."""
    ramp = np.tile(np.arange(0, 240, 15, dtype=np.uint8)[None, :, None], (16, 1, 3))
    images = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 51, np.uint8), ramp])
    drawn = np.stack([images[0] + 25, images[1] + 51, np.where(np.arange(16)[None, :, None] < 8, ramp, ramp // 2)])
    return ImageSplit(images, np.zeros(3, np.int64), ("a", "b", "c")), drawn.astype(np.uint8)


def test_psnr_is_the_mean_over_images_not_of_the_mean_error():
    # 0.01 is 20 dB, 0.0001 is 40 dB: 30 dB; the mean error, 0.00505, would be 22.97 dB
    assert mean_psnr(np.array([0.01, 0.0001])) == pytest.approx(30.0)
    assert psnr_from_mse(np.array([0.0])).tolist() == pytest.approx([100.0])


def test_errors_are_those_of_unit_range_pixels_before_rounding(make_images, compute):
    images = make_images()
    result = reconstruct(Dimmed(0.1), images.test, batch_size=5, compute=compute)
    assert result.mse == pytest.approx(np.full(12, 0.01), rel=1e-4)
    expected = np.clip(images.test.images.astype(int) - 25.5, 0, 255)
    assert np.abs(result.images - expected).max() <= 0.51
    assert result.images.dtype == np.uint8


def test_a_perfect_autoencoder_gives_the_images_back(make_images, compute):
    images = make_images()
    result = reconstruct(Dimmed(), images.test, batch_size=64, compute=compute)
    assert np.array_equal(result.images, images.test.images)
    assert mean_psnr(result.mse) == 100.0
    assert result.ssim == pytest.approx(np.ones(12), abs=1e-5)


def test_the_mean_image_is_of_train(make_images):
    """Train is black and white, so its mean is half grey; test is black: an error of 0.25 without a model."""
    from dataclasses import replace

    train = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    train[1] = 255
    black = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    dataset = replace(
        make_images(2, num_per_class=1),
        train=ImageSplit(train, np.array([0, 1]), ("a", "b")),
        test=ImageSplit(black, np.array([0, 0, 0]), ("c", "d", "e")),
    )
    assert mean_psnr(mean_image_mse(dataset)) == pytest.approx(-10 * math.log10(0.25))


def test_metrics_of_hand_made_images_are_torchmetrics_own(hand_made):
    split, drawn = hand_made
    ours = score_reconstructions(drawn, split, batch_size=2)
    first, second = (torch.from_numpy(one).permute(0, 3, 1, 2).double() / 255 for one in (drawn, split.images))
    psnr = peak_signal_noise_ratio(first, second, data_range=1.0, reduction="none", dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(first, second, data_range=1.0, reduction="none")
    assert psnr_from_mse(ours.mse) == pytest.approx(psnr.numpy(), abs=1e-4)
    assert ours.ssim == pytest.approx(ssim.numpy(), abs=1e-4)
    # by hand: the first is wrong by 25 / 255, the second by 51 / 255 = 0.2, that is 13.979 dB
    assert ours.mse[:2] == pytest.approx([(25 / 255) ** 2, 0.04], rel=1e-5)
    assert psnr_from_mse(ours.mse)[1] == pytest.approx(-10 * math.log10(0.04))


def test_errors_of_hidden_pixels_are_those_of_torchmetrics(hand_made):
    split, drawn = hand_made
    hidden = evaluation_masks(Masking(patch_size=4, share=0.25, evaluation_seed=1), "test", 3, image_size=16)
    ours = psnr_from_mse(masked_mse(score_reconstructions(drawn, split, batch_size=2).squared_errors, hidden))
    for row in range(3):
        first, second = (torch.from_numpy(one[row][hidden[row]]).double() / 255 for one in (drawn, split.images))
        if not torch.equal(first, second):
            assert ours[row] == pytest.approx(float(peak_signal_noise_ratio(first, second, data_range=1.0)), abs=1e-4)


def test_hidden_and_visible_pixels_are_told_apart(make_images, compute):
    images = make_images()
    hidden = evaluation_masks(Masking(patch_size=4, share=0.25, evaluation_seed=0), "test", 12, image_size=16)
    result = reconstruct(Dimmed(), images.test, batch_size=5, compute=compute, hidden=hidden)
    assert (masked_mse(result.squared_errors, ~hidden) == 0.0).all()
    black = np.square(images.test.images / 255.0).mean(axis=3)
    expected = [black[row][hidden[row]].mean() for row in range(12)]
    assert masked_mse(result.squared_errors, hidden) == pytest.approx(expected, rel=1e-5)


def test_masks_of_val_and_test_are_their_own_and_always_the_same():
    masking = Masking(patch_size=4, share=0.25, evaluation_seed=0)
    test = evaluation_masks(masking, "test", 5, image_size=16)
    assert np.array_equal(test, evaluation_masks(masking, "test", 5, image_size=16))
    assert not np.array_equal(test, evaluation_masks(masking, "val", 5, image_size=16))
    assert not np.array_equal(
        test, evaluation_masks(masking.model_copy(update={"evaluation_seed": 1}), "test", 5, image_size=16)
    )


def test_reconstructing_leaves_no_gradients(make_images, compute):
    class Linear(Dimmed):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, images, hidden=None):
            return self.layer(images)

    model = Linear()
    reconstruct(model, make_images().test, batch_size=4, compute=compute)
    assert model.layer.weight.grad is None
    assert isinstance(model.layer.weight, torch.nn.Parameter)
