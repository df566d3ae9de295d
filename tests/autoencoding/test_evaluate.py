"""What is said of an autoencoder: completion beside inpainting, intervals, probe, neighbours."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from seesay.autoencoding.evaluate import (
    NUM_NEIGHBOURS,
    complete,
    completion_metrics,
    evaluate_autoencoder,
    load_backbone_classifier,
)
from seesay.autoencoding.latents import (
    INVERSE_STRENGTHS,
    Latents,
    encode,
    linear_probe,
    nearest_neighbours,
    same_class_shares,
    standardised_latents,
)
from seesay.autoencoding.networks.registry import build_autoencoder
from seesay.autoencoding.reconstruct import inpaint, interpolate, masked_mse, mean_image_mse, patch_ssim, psnr_from_mse
from seesay.core.errors import InputError
from seesay.params.autoencoding import Masking
from seesay.params.classification import Architecture
from seesay.params.results import Evaluation
from seesay.resampling import mean_interval, with_interval
from seesay.training.checkpoint import save_checkpoint

MASKING = Masking(patch_size=4, share=0.25, evaluation_seed=0)
SETTINGS = Evaluation(batch_size=5, panel_images=4, panel_seed=0, bootstrap_resamples=200, bootstrap_seed=0)


@pytest.fixture
def autoencoder():
    architecture = Architecture(name="conv_autoencoder", width=4, latent_channels=4)
    return build_autoencoder(architecture, image_size=16, seed=0, key="x").eval()


class TestInpainting:
    def test_never_looks_at_what_is_hidden(self, make_images):
        images = np.asarray(make_images().test.images)
        hidden = np.zeros((12, 16, 16), dtype=bool)
        hidden[:, 4:8, 4:8] = True
        other = np.where(hidden[..., None], 255 - images, images)
        assert np.array_equal(inpaint(images, hidden, radius=4), inpaint(other, hidden, radius=4))

    def test_leaves_what_is_visible_and_carries_a_plain_colour_on(self):
        images = np.full((1, 16, 16, 3), 90, dtype=np.uint8)
        hidden = np.zeros((1, 16, 16), dtype=bool)
        hidden[:, 4:8, 4:8] = True
        assert np.abs(inpaint(images, hidden, radius=4).astype(int) - 90).max() <= 1


class TestCompletion:
    def test_gain_is_the_paired_difference_on_hidden_pixels(self, autoencoder, make_images, compute):
        images = make_images()
        completion = complete(autoencoder, MASKING, images, batch_size=5, compute=compute)
        ours, theirs = (
            psnr_from_mse(masked_mse(one.squared_errors, completion.hidden))
            for one in (completion.completed, completion.inpainted)
        )
        metrics = completion_metrics(completion, MASKING, images, SETTINGS)
        assert metrics["test/hidden_psnr"] == pytest.approx(ours.mean())
        assert metrics["test/inpainting_hidden_psnr"] == pytest.approx(theirs.mean())
        assert metrics["test/psnr_over_inpainting"] == pytest.approx((ours - theirs).mean())
        low, high = mean_interval(ours - theirs, num_resamples=200, seed=0)
        assert (metrics["test/psnr_over_inpainting_low"], metrics["test/psnr_over_inpainting_high"]) == (low, high)

    def test_hidden_and_visible_pixels_make_up_the_whole(self, autoencoder, make_images, compute):
        images = make_images()
        completion = complete(autoencoder, MASKING, images, batch_size=5, compute=compute)
        metrics = completion_metrics(completion, MASKING, images, SETTINGS)
        # a quarter of every image is hidden
        whole = 0.25 * metrics["test/hidden_mse"] + 0.75 * metrics["test/visible_mse"]
        assert whole == pytest.approx(completion.completed.mse.mean(), rel=1e-5)
        everywhere = np.ones_like(completion.hidden)
        assert mean_image_mse(images, mask=everywhere) == pytest.approx(mean_image_mse(images))

    def test_structure_is_compared_where_patches_are_large_enough(self, autoencoder, make_images, compute):
        images = make_images()
        of_size = {}
        for size in (4, 8):
            masking = MASKING.model_copy(update={"patch_size": size})
            completion = complete(autoencoder, masking, images, batch_size=5, compute=compute)
            of_size[size] = completion_metrics(completion, masking, images, SETTINGS)
        assert not [key for key in of_size[4] if key.endswith("_ssim")]
        assert {key for key in of_size[8] if key.endswith("_ssim")} == {
            "test/hidden_ssim",
            "test/visible_ssim",
            "test/inpainting_hidden_ssim",
        }

    def test_every_measurement_has_its_place(self, autoencoder, make_images, compute):
        found = evaluate_autoencoder(autoencoder, MASKING, make_images(), SETTINGS, classifier=None, compute=compute)
        assert found.neighbours.shape == (12, NUM_NEIGHBOURS)
        assert found.metrics["latent_size"] == 16.0
        for key in ("test/psnr", "test/probe_top1", "test/hidden_psnr", "test/psnr_over_inpainting"):
            assert found.metrics[f"{key}_low"] <= found.metrics[key] <= found.metrics[f"{key}_high"]
        assert "test/classifier_top1" not in found.metrics

    def test_the_classifier_it_is_built_on_stands_beside_its_probe(
        self, autoencoder, make_images, new_checkpoint, compute, tmp_path
    ):
        images = make_images()
        save_checkpoint(tmp_path / "0.pt", new_checkpoint(images, Architecture(name="resnet9", width=2)))
        classifier = load_backbone_classifier(tmp_path / "0.pt", images)
        found = evaluate_autoencoder(autoencoder, None, images, SETTINGS, classifier=classifier, compute=compute)
        assert 0.0 <= found.metrics["test/classifier_top1"] <= 1.0
        assert "test/hidden_psnr" not in found.metrics
        with pytest.raises(InputError, match="has 3 classes, but the data have 2"):
            load_backbone_classifier(tmp_path / "0.pt", make_images(2))


class TestPatchSimilarity:
    @pytest.fixture
    def pixels(self):
        return np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)

    def test_is_torchmetrics_own_of_each_patch_by_itself(self, pixels):
        drawn, images = pixels
        patches = np.zeros((3, 2, 2), dtype=bool)
        patches[0, 0, 1] = patches[1, 0, 0] = patches[1, 1, 0] = patches[2, 1, 1] = True
        places = [[(0, 8)], [(0, 0), (8, 0)], [(8, 8)]]

        def cut(one, y, x):
            return torch.from_numpy(one[y : y + 8, x : x + 8].transpose(2, 0, 1)[None].copy()).float() / 255

        expected = [
            np.mean([structural_similarity_index_measure(cut(a, *at), cut(b, *at), data_range=1.0) for at in of_image])
            for a, b, of_image in zip(drawn, images, places, strict=True)
        ]
        assert patch_ssim(drawn, images, patches, batch_size=2) == pytest.approx(expected, abs=1e-5)

    def test_does_not_see_the_patches_that_are_not_chosen(self, pixels):
        patches = np.zeros((3, 2, 2), dtype=bool)
        patches[:, 0, 1] = True
        drawn = pixels[0].copy()
        drawn[:, :8, 8:] = pixels[1][:, :8, 8:]
        assert patch_ssim(drawn, pixels[1], patches, batch_size=3) == pytest.approx(np.ones(3))


class TestIntervals:
    def test_hold_the_mean_and_shrink_with_the_root_of_the_number_of_images(self):
        values = np.random.default_rng(0).normal(20.0, 2.0, 4000)
        narrow = mean_interval(values, num_resamples=500, seed=0)
        wide = mean_interval(values[:1000], num_resamples=500, seed=0)
        assert narrow[0] < values.mean() < narrow[1]
        # 1.96 * 2 / sqrt(4000) = 0.062 on each side
        assert narrow[1] - narrow[0] == pytest.approx(0.124, rel=0.15)
        assert wide[1] - wide[0] == pytest.approx(2 * 0.124, rel=0.2)

    def test_of_equal_values_have_no_width(self):
        assert with_interval("x", np.full(10, 3.0), num_resamples=20, seed=0) == {"x": 3.0, "x_low": 3.0, "x_high": 3.0}


class TestLatents:
    def test_are_standardised_by_train(self, autoencoder, make_images, compute):
        images = make_images()
        latents = standardised_latents(autoencoder, images, batch_size=5, compute=compute)
        assert latents.train.shape == (12, 16)
        assert latents.train.mean(axis=0) == pytest.approx(np.zeros(16), abs=1e-4)
        raw = [encode(autoencoder, split, batch_size=7, compute=compute) for split in (images.train, images.test)]
        expected = (raw[1] - raw[0].mean(axis=0)) / raw[0].std(axis=0)
        assert latents.test == pytest.approx(expected, abs=1e-3)

    def test_a_number_that_never_changes_stays_finite(self, make_images, compute):
        class Constant(torch.nn.Module):
            def encode(self, images):
                return torch.stack([torch.ones(len(images)), images.mean(dim=(1, 2, 3))], dim=1)

        latents = standardised_latents(Constant(), make_images(), batch_size=5, compute=compute)
        assert np.isfinite(latents.test).all()

    def test_on_the_way_between_two_images_the_ends_are_their_reconstructions(self, autoencoder, make_images, compute):
        images = make_images()
        strips = interpolate(autoencoder, images.test, np.array([[0, 11], [3, 4]]), steps=5, compute=compute)
        assert strips.shape == (2, 5, 16, 16, 3)
        with torch.no_grad():
            pixels = torch.from_numpy(np.array(images.test.images)).permute(0, 3, 1, 2) / 255.0
            drawn = autoencoder(pixels).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        assert np.abs(strips[0, 0].astype(int) - drawn[0]).max() <= 1
        assert np.abs(strips[0, -1].astype(int) - drawn[11]).max() <= 1


class TestLinearProbe:
    def test_reads_a_class_that_lies_on_a_line_and_chooses_by_val(self):
        random = np.random.default_rng(0)
        labels = {name: random.integers(0, 3, 300) for name in ("train", "val", "test")}
        points = {name: np.eye(3)[of] * 3 + random.normal(size=(300, 3)) for name, of in labels.items()}
        probe = linear_probe(Latents(**{name: one.astype(np.float32) for name, one in points.items()}), **labels)
        assert probe.is_correct.mean() > 0.9
        assert probe.inverse_strength in INVERSE_STRENGTHS
        assert probe.is_correct.shape == (300,)

    def test_of_noise_knows_nothing(self):
        random = np.random.default_rng(0)
        labels = {name: random.integers(0, 4, 400) for name in ("train", "val", "test")}
        latents = Latents(*(random.normal(size=(400, 8)).astype(np.float32) for _ in range(3)))
        assert linear_probe(latents, **labels).is_correct.mean() == pytest.approx(0.25, abs=0.08)


class TestNeighbours:
    def test_are_those_of_the_highest_cosine(self):
        among = np.array([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
        # from (2, 0) the directions (1, 0), (10, 1), (0, 1) and (-1, 0) are in this order, whatever their length
        assert nearest_neighbours(np.array([[2.0, 0.0]]), among, count=3).tolist() == [[0, 1, 2]]

    def test_share_counts_those_of_the_same_class(self):
        neighbours = np.array([[0, 1], [2, 3]])
        shares = same_class_shares(neighbours, labels=np.array([5, 6]), train_labels=np.array([5, 7, 6, 6]))
        assert shares.tolist() == [0.5, 1.0]
