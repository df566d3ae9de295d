import math

import numpy as np
import pytest
import torch
from torch import nn

from seesay.data.packed_images import ImageSplit
from seesay.evaluation.reconstruction import Reconstructions, mean_psnr, reconstruct, reconstruction_metrics


class Dimmed(nn.Module):
    def __init__(self, loss_of_light):
        super().__init__()
        self.loss_of_light = loss_of_light

    def forward(self, images):
        return images - self.loss_of_light


def test_psnr_is_the_mean_over_images_not_of_the_mean_error():
    # 0.01 is 20 dB, 0.0001 is 40 dB: 30 dB; the mean error, 0.00505, would be 22.97 dB
    assert mean_psnr(np.array([0.01, 0.0001])) == pytest.approx(30.0)
    assert mean_psnr(np.array([0.0])) == pytest.approx(100.0)


def test_errors_are_those_of_unit_range_pixels_before_rounding(make_images, compute):
    images = make_images()
    result = reconstruct(Dimmed(0.1), images.test, batch_size=5, compute=compute)
    assert result.mse == pytest.approx(np.full(12, 0.01), rel=1e-4)
    expected = np.clip(images.test.images.astype(int) - 25.5, 0, 255)
    assert np.abs(result.images - expected).max() <= 0.51
    assert result.images.dtype == np.uint8


def test_a_perfect_autoencoder_gives_the_images_back(make_images, compute):
    images = make_images()
    result = reconstruct(nn.Identity(), images.test, batch_size=64, compute=compute)
    assert np.array_equal(result.images, images.test.images)
    assert reconstruction_metrics(result, images)["test/psnr"] == 100.0


def test_metrics_stand_beside_the_mean_image(make_images):
    """Train is black and white, so its mean is half grey; test is black: an error of 0.25 without a model."""
    images = make_images(2, num_per_class=1)
    train = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    train[1] = 255
    black = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    from dataclasses import replace

    dataset = replace(
        images,
        train=ImageSplit(train, np.array([0, 1]), ("a", "b")),
        test=ImageSplit(black, np.array([0, 0, 0]), ("c", "d", "e")),
    )
    metrics = reconstruction_metrics(Reconstructions(black, np.array([0.1, 0.001, 0.01])), dataset)
    assert metrics == {
        "test/mse": pytest.approx(0.037),
        "test/psnr": pytest.approx(20.0),
        "test/mean_image_psnr": pytest.approx(-10 * math.log10(0.25)),
    }


def test_reconstructing_leaves_no_gradients(make_images, compute):
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    reconstruct(model, make_images().test, batch_size=4, compute=compute)
    assert model[0].weight.grad is None
    assert isinstance(model[0].weight, torch.nn.Parameter)


def test_psnr_is_torchmetrics_own():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    generator = torch.Generator().manual_seed(0)
    images, drawn = torch.rand(2, 5, 3, 8, 8, generator=generator)
    mse = (images - drawn).square().mean(dim=(1, 2, 3)).double().numpy()
    expected = peak_signal_noise_ratio(drawn, images, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    assert mean_psnr(mse) == pytest.approx(float(expected), abs=1e-5)
