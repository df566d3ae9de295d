"""What an encoder looks at, and how that goes with what is drawn well."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from seesay.autoencoding.explain import (
    correlate_with_error,
    encoder_maps,
    explain_autoencoder,
    grid_means,
    grid_size,
    layer_at,
    rank_correlation,
)
from seesay.autoencoding.networks.registry import build_autoencoder
from seesay.classification.networks.registry import build_classifier
from seesay.compute import configure
from seesay.images.packed import ImageClass, ImageSplit, PackedImages
from seesay.params.classification import Architecture
from seesay.params.results import EncoderMaps
from seesay.params.training import Runtime
from seesay.sources.provenance import SourceNote


@pytest.fixture
def compute():
    return configure(Runtime(device="cpu", precision="float32", num_threads=1, deterministic=False, compile=False))


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    split = ImageSplit(pixels, np.arange(7) % 2, tuple("abcdefg"))
    classes = (ImageClass("n0", "one"), ImageClass("n1", "two"))
    return PackedImages(split, split, split, classes, 32, (0.5,) * 3, (0.25,) * 3, "x", "d", SourceNote("x", ()))


@pytest.fixture
def autoencoder():
    architecture = Architecture(
        name="backbone_autoencoder",
        backbone={"name": "plain_cnn", "widths": [4, 6], "dropout": 0.0},
        train_backbone=True,
        latent_channels=3,
        decoder_widths=[4, 4, 4],
        decoder_blocks=1,
    )
    return build_autoencoder(architecture, image_size=32, seed=0, key="x").eval()


DEPTHS = (0.0, 0.5, 1.0)
SHOWN = EncoderMaps(depths=DEPTHS, num_images=2, seed=0)


class TestEncoderMaps:
    def test_depths_go_from_the_first_layer_to_the_last(self):
        assert [layer_at(depth, 8) for depth in (0.0, 0.05, 0.5, 0.9, 1.0)] == [0, 0, 4, 6, 7]
        assert [layer_at(depth, 1) for depth in (0.0, 0.5, 1.0)] == [0, 0, 0]

    def test_are_of_the_chosen_depths_of_the_encoder_and_as_large_as_the_image(self, autoencoder, images, compute):
        layers = encoder_maps(autoencoder, images.test, DEPTHS, batch_size=3, compute=compute)
        # four convolutions of the backbone; that into latents only mixes, those of the decoder are not the encoder's
        assert [(one.number, one.num_layers, one.side) for one in layers] == [(1, 4, 16), (3, 4, 8), (4, 4, 8)]
        for one in layers:
            assert one.strongest.shape == one.strength.shape == (7, 32, 32)
            assert one.strongest.min() >= 0.0
            assert one.strongest.max() == pytest.approx(1.0)
            assert (one.strength >= 0.0).all()

    def test_do_not_depend_on_the_batch_size_nor_on_hidden_pixels(self, autoencoder, images, compute):
        hidden = np.zeros((7, 32, 32), dtype=bool)
        hidden[:, :8, :8] = True
        first = encoder_maps(autoencoder, images.test, DEPTHS, batch_size=3, compute=compute, hidden=hidden)
        other = np.where(hidden[..., None], 255 - images.test.images, images.test.images)
        split = ImageSplit(other, images.test.labels, images.test.ids)
        second = encoder_maps(autoencoder, split, DEPTHS, batch_size=7, compute=compute, hidden=hidden)
        for one, two in zip(first, second, strict=True):
            assert one.strength == pytest.approx(two.strength, abs=1e-5)

    def test_an_encoder_without_convolutions_has_none(self, images, compute):
        linear = build_autoencoder(Architecture(name="pca", num_components=4), image_size=32, seed=0, key="x")
        assert encoder_maps(linear, images.test, DEPTHS, batch_size=3, compute=compute) == []


class TestAgreement:
    def test_is_spearman_s_correlation_of_each_image(self):
        random = np.random.default_rng(0)
        first, second = random.integers(0, 5, (2, 6, 20))  # with ties
        expected = [spearmanr(one, two).statistic for one, two in zip(first, second, strict=True)]
        assert rank_correlation(first, second) == pytest.approx(expected)

    def test_is_one_where_the_map_is_highest_exactly_where_the_error_is_least(self):
        errors = np.random.default_rng(0).random((5, 16, 16))
        found = correlate_with_error("x", -errors, errors, patches=None, seed=0)
        assert found.correlations == pytest.approx(np.ones(5))
        assert correlate_with_error("x", errors, errors, patches=None, seed=0).correlations == pytest.approx(
            -np.ones(5)
        )

    def test_the_control_takes_another_image_s_map_and_finds_nothing(self):
        errors = np.random.default_rng(0).random((200, 16, 16))
        found = correlate_with_error("x", -errors, errors, patches=None, seed=0)
        assert abs(found.shuffled.mean()) < 0.05
        assert found.shuffled.max() < 1.0  # nobody's own
        assert found.metrics() == {
            "agreement/x": pytest.approx(1.0),
            "agreement/x_shuffled": pytest.approx(found.shuffled.mean()),
        }

    def test_images_without_ranks_are_left_out(self):
        errors = np.random.default_rng(0).random((4, 16, 16))
        maps = -errors.copy()
        maps[1] = 0.5
        # neither the second nor the one that borrows its map: two of four are left
        assert len(correlate_with_error("x", maps, errors, patches=None, seed=0).correlations) == 2
        assert correlate_with_error("x", np.zeros_like(maps), errors, patches=None, seed=0) is None

    def test_cells_are_means_of_squares(self):
        values = np.arange(16 * 16, dtype=float).reshape(1, 16, 16)
        cells = grid_means(values, grid_size(16))
        assert cells.shape == (1, 64)
        # the first square holds 0, 1, 16, 17
        assert cells[0, 0] == pytest.approx(8.5)
        assert [grid_size(size) for size in (64, 12, 5)] == [8, 6, 5]  # 8 does not divide 12, 6 does

    def test_where_patches_were_hidden_only_they_are_compared(self):
        random = np.random.default_rng(0)
        errors, patches = random.random((6, 16, 16)), np.zeros((6, 4, 4), dtype=bool)
        for row in range(6):
            patches[row].flat[random.permutation(16)[:5]] = True
        hidden = np.kron(patches, np.ones((4, 4))) > 0
        maps = np.where(hidden, -errors, random.random((6, 16, 16)))
        assert correlate_with_error("x", maps, errors, patches=patches, seed=0).correlations == pytest.approx(
            np.ones(6)
        )
        assert correlate_with_error("x", maps, errors, patches=None, seed=0).correlations.max() < 1.0


def test_an_explanation_has_grad_cam_only_with_a_classifier(autoencoder, images, compute):
    errors = np.random.default_rng(0).random((7, 32, 32)).astype(np.float32)
    arguments = {"hidden": None, "masking": None, "batch_size": 3, "compute": compute}
    alone = explain_autoencoder(autoencoder, None, images, errors, SHOWN, **arguments)
    assert alone.class_maps is None
    assert [one.name for one in alone.correlations] == ["layer1", "layer3", "layer4"]
    architecture = Architecture(name="plain_cnn", widths=[4, 6], dropout=0.0)
    torch.manual_seed(0)
    classifier = build_classifier(architecture, num_classes=2, image_size=32, seed=0, key="x").eval()
    explained = explain_autoencoder(autoencoder, classifier, images, errors, SHOWN, **arguments)
    assert explained.class_maps.shape == (7, 32, 32)
    assert {"agreement/grad_cam", "agreement/grad_cam_shuffled", "num_layers"} <= set(explained.metrics())
