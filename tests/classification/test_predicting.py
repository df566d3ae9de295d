import numpy as np
import torch
from torch import nn

from seesay.classification.evaluate import predict_classes, predict_split


class Brightness(nn.Module):
    """Logits that show what the network was given: the image's mean, and what precision it computes in."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.dropout = nn.Dropout(0.9)

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([self.dropout(mean), -mean, torch.full_like(mean, torch.is_autocast_enabled("cpu"))], 1)


def test_every_image_is_seen_in_order_normalised_in_float32(make_images, compute):
    images = make_images()
    predictions = predict_classes(Brightness().train(), images, batch_size=5, compute=compute)
    for split, seen in ((images.val, predictions.val), (images.test, predictions.test)):
        expected = (split.images / 255.0 - images.channel_mean) / images.channel_std
        assert np.allclose(seen.logits[:, 0], expected.mean(axis=(1, 2, 3)), atol=1e-5)
        assert not seen.logits[:, 2].any()  # no autocast
        assert seen.logits.dtype == np.float32
        assert np.array_equal(seen.labels, split.labels)
        assert seen.class_labels == ("word 0", "word 1", "word 2")


def test_the_batch_size_decides_nothing(make_images, compute):
    one, all_ = (predict_classes(Brightness(), make_images(), batch_size=n, compute=compute) for n in (1, 100))
    assert np.allclose(one.test.logits, all_.test.logits, atol=1e-6)


class LeftHalf(nn.Module):
    """The mean of the image's left half."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, images):
        return images[..., : images.shape[3] // 2].mean(dim=(1, 2, 3))[:, None].repeat(1, 3)


def test_a_mirrored_image_has_its_right_half_on_the_left(make_images, compute):
    images = make_images()
    seen = predict_split(LeftHalf(), images, images.test, batch_size=5, compute=compute, mirrored=True)
    right = (images.test.images[:, :, 8:] / 255.0 - images.channel_mean) / images.channel_std
    assert np.allclose(seen.logits[:, 0], right.mean(axis=(1, 2, 3)), atol=1e-5)
