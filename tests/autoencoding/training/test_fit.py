"""Autoencoders of every kind trained on a handful of images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torchmetrics.functional.image import peak_signal_noise_ratio

from seesay.autoencoding.networks.registry import autoencoder_settings, restore_autoencoder
from seesay.autoencoding.reconstruct import evaluation_masks, masked_mse, mean_psnr, reconstruct
from seesay.autoencoding.training.experiments import start_autoencoder, train_autoencoder
from seesay.autoencoding.training.fit import (
    LOG_FLOOR,
    masked_mean,
    reconstruction_losses,
    reconstruction_step,
    structural_similarity,
)
from seesay.autoencoding.training.masks import hidden_pixels, sample_hidden_patches
from seesay.classification.networks.registry import build_classifier, restore_classifier
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.params.autoencoding import Autoencoder, Masking, ReconstructionLoss
from seesay.params.classification import Architecture
from seesay.params.training import Augmentation
from seesay.training.checkpoint import Checkpoint, describe_architecture, save_checkpoint

BACKBONE = {"name": "resnet9", "width": 2}
CONV = Architecture(name="conv_autoencoder", width=4, latent_channels=8)
ON_BACKBONE = {
    "name": "backbone_autoencoder",
    "latent_channels": 8,
    "decoder_widths": [8, 8, 4, 4],
    "decoder_blocks": 1,
}
MASKING = Masking(patch_size=4, share=0.25, evaluation_seed=0)
WIDE_MASKING = Masking(patch_size=8, share=0.5, evaluation_seed=0)  # patches wide enough for SSIM


def weights(**chosen):
    return ReconstructionLoss(**{"l1": 0.0, "l2": 0.0, "log_l2": 0.0, "ssim": 0.0, **chosen})


def on_backbone(*, train_backbone, backbone=BACKBONE):
    return Architecture(**ON_BACKBONE, backbone=backbone, train_backbone=train_backbone)


@pytest.fixture
def settings(training, adamw):
    return Autoencoder(
        dataset="noise",
        architecture=CONV,
        start="scratch",
        augmentation=Augmentation(flip=True, crop_padding=0, cutout=0.0),
        training=training.model_copy(update={"epochs": 6, "optimizer": adamw, "moving_average": None}),
        loss=weights(l2=1.0),
    )


def changed(settings, **changes):
    return Autoencoder(**{**{name: getattr(settings, name) for name in Autoencoder.model_fields}, **changes})


@pytest.fixture
def classifier(noise):
    """The checkpoint of an untrained classifier of the same images, its batch norms not as they begin."""
    sizes = {"num_classes": 3, "image_size": 16}
    network = build_classifier(Architecture(**BACKBONE), **sizes, seed=5, key="x")
    network.train()(torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    return Checkpoint(
        kind="classifier",
        dataset="noise",
        dataset_digest=noise.digest,
        classes=("n0", "n1", "n2"),
        vocabulary_digest="",
        architecture=describe_architecture(Architecture(**BACKBONE)),
        sizes=sizes,
        settings={},
        normalisation={"mean": list(noise.channel_mean), "std": list(noise.channel_std)},
        state_dict=network.state_dict(),
        metrics={},
    )


@pytest.fixture
def make(noise, settings, compute, tmp_path):
    """`train_autoencoder` on the noise; any argument can be another."""

    def run(settings=settings, **changes):
        arguments = {"seed": 0, "compute": compute, "log": lambda metrics, *, step: None, "resume": None, **changes}
        return train_autoencoder("cell", settings, noise, Paths(tmp_path), **arguments).checkpoint

    return run


def test_an_autoencoder_learns_and_its_checkpoint_gives_the_same_psnr(make, noise, compute):
    rows = []
    best = make(log=lambda metrics, *, step: rows.append(metrics))
    assert set(rows[0]) == {"train/loss", "val/loss", "val/mse", "val/psnr", "learning_rate"}
    assert rows[-1]["train/loss"] < 0.6 * rows[0]["train/loss"]
    assert best.metrics["val/loss"] == best.metrics["val/mse"]
    drawn = reconstruct(restore_autoencoder(best), noise.val, batch_size=5, compute=compute)
    assert mean_psnr(drawn.mse) == pytest.approx(best.metrics["val/psnr"], abs=1e-3)


def test_the_checkpoint_says_how_it_was_trained(make, settings):
    masked = changed(settings, masking=MASKING)
    checkpoint = make(masked)
    assert autoencoder_settings(checkpoint) == masked
    assert checkpoint.architecture == {"name": "conv_autoencoder", "arguments": {"width": 4, "latent_channels": 8}}


@pytest.mark.parametrize("is_masked", [False, True])
def test_two_trainings_and_a_resumed_one_write_the_same_bytes(make, settings, is_masked, tmp_path):
    wanted = changed(settings, masking=MASKING) if is_masked else settings
    save_checkpoint(tmp_path / "one.pt", make(wanted))

    def killed(metrics, *, step):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(wanted, log=killed, resume=tmp_path / "scratch")
    save_checkpoint(tmp_path / "two.pt", make(wanted, resume=tmp_path / "scratch"))
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


class TestLoss:
    @pytest.fixture
    def images(self):
        return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    @pytest.fixture
    def hidden(self):
        patches = sample_hidden_patches(3, MASKING, image_size=16, generator=torch.Generator().manual_seed(1))
        return hidden_pixels(patches, patch_size=4)

    def test_is_the_weighted_sum_it_says_it_is(self, images):
        drawn = images + 0.1  # an absolute error of 0.1 and a squared one of 0.01 everywhere
        loss = reconstruction_losses(drawn, images, None, weights(l1=1.0, l2=2.0, log_l2=3.0, ssim=4.0), masking=None)
        ssim = structural_similarity(drawn, images)
        expected = 0.1 + 2 * 0.01 + 3 * math.log(0.01 + LOG_FLOOR) + 4 * (1 - ssim)
        assert loss.tolist() == pytest.approx(expected.tolist(), rel=1e-4)

    def test_of_logarithms_is_psnr_turned_round(self, images):
        drawn = (images + 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
        loss = reconstruction_losses(drawn, images, None, weights(log_l2=10 / math.log(10)), masking=None)
        psnr = peak_signal_noise_ratio(drawn, images, data_range=1.0, reduction="none", dim=(1, 2, 3))
        assert torch.allclose(loss, -psnr, atol=0.01)

    def test_with_hidden_patches_sees_them_and_nothing_else(self, images, hidden):
        drawn = torch.full_like(images, 0.5).requires_grad_()
        chosen = weights(l1=1.0, l2=1.0, log_l2=1.0)
        loss = reconstruction_losses(drawn, images, hidden, chosen, masking=MASKING)
        loss.sum().backward()
        seen = ~hidden.expand_as(images)
        assert (drawn.grad[seen] == 0.0).all()
        assert (drawn.grad[~seen] != 0.0).all()
        elsewhere = torch.where(hidden, drawn.detach(), torch.tensor(float("nan")))
        again = reconstruction_losses(elsewhere, images, hidden, chosen, masking=MASKING)
        assert torch.equal(again, loss)

    def test_of_hidden_patches_is_their_mean_not_the_image_s(self):
        image = torch.zeros(1, 3, 4, 4)
        hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        hidden[:, :, 0, :2] = True
        drawn = torch.zeros(1, 3, 4, 4)
        drawn[:, :, 0, 0], drawn[:, :, 3, 3] = 0.5, 1.0
        # of two hidden pixels one is wrong by 0.5: 0.25 / 2; the visible mistake does not count
        assert masked_mean((drawn - image).square(), hidden).item() == pytest.approx(0.125)
        assert reconstruction_losses(drawn, image, hidden, weights(l2=1.0), masking=None).item() == pytest.approx(0.125)

    def test_a_step_hides_what_it_asks_for(self, images, hidden):
        seen = []

        def learner(batch, mask):
            seen.append(mask)
            return batch * 0.5, None

        step = reconstruction_step(learner, (images, hidden, torch.zeros(3)), loss=weights(l2=1.0), masking=MASKING)
        assert seen[0] is hidden
        assert step.loss.item() == pytest.approx(masked_mean((0.5 * images).square(), hidden).mean().item())

    def test_adds_the_cross_entropy_of_the_class(self, images):
        labels, logits = torch.tensor([2, 0, 1]), torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        chosen = weights(l2=1.0, cross_entropy=0.5)
        step = reconstruction_step(lambda *_: (images, logits), (images, None, labels), loss=chosen, masking=None)
        wrong = math.log(2 + math.exp(2.0)) - 2.0 + math.log(2 + math.e) + math.log(3)
        assert step.loss.item() == pytest.approx(0.5 * wrong / 3)
        assert step.sums["top1"].item() == 1

    def test_ssim_with_masking_is_that_of_hidden_patches_alone(self, images):
        patches = torch.tensor([[[True, False], [True, False]]]).expand(3, 2, 2)
        hidden = hidden_pixels(patches, patch_size=8)
        drawn = images + 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
        drawn = torch.where(hidden, drawn, torch.tensor(float("nan")))
        loss = reconstruction_losses(drawn, images, hidden, weights(ssim=1.0), masking=WIDE_MASKING)
        upper, lower = (
            structural_similarity(drawn[..., at, :8], images[..., at, :8]) for at in (slice(8), slice(8, 16))
        )
        assert loss.tolist() == pytest.approx((1 - (upper + lower) / 2).tolist(), abs=1e-5)


def test_val_loss_of_a_masked_autoencoder_is_that_of_hidden_patches(make, settings, noise, compute):
    """They are hidden by the masks that the evaluation draws."""
    best = make(changed(settings, masking=MASKING))
    hidden = evaluation_masks(MASKING, "val", len(noise.val), image_size=16)
    drawn = reconstruct(restore_autoencoder(best), noise.val, batch_size=5, compute=compute, hidden=hidden)
    assert float(masked_mse(drawn.squared_errors, hidden).mean()) == pytest.approx(best.metrics["val/mse"], rel=1e-4)


class TestOnABackbone:
    @pytest.fixture(autouse=True)
    def _trained(self, classifier, tmp_path):
        save_checkpoint(Paths(tmp_path).classifier("parent"), classifier)

    def test_frozen_the_trained_backbone_comes_out_as_it_went_in(self, make, settings, classifier):
        frozen = changed(settings, architecture=on_backbone(train_backbone=False), start="classifiers/parent")
        body = restore_classifier(classifier).body.state_dict()
        found = restore_autoencoder(make(frozen)).backbone.state_dict()
        assert all(torch.equal(found[name], body[name]) for name in body)

    def test_fine_tuned_it_starts_there_and_learns(self, make, settings, classifier, noise, tmp_path):
        tuned = changed(
            settings, architecture=on_backbone(train_backbone=True), start="classifiers/parent", backbone_rate=0.1
        )
        body = restore_classifier(classifier).body.state_dict()
        started = start_autoencoder("cell", tuned, noise, Paths(tmp_path), seed=0).backbone.state_dict()
        assert all(torch.equal(started[name], body[name]) for name in body)
        learned = restore_autoencoder(make(tuned)).backbone.state_dict()
        moved = [name for name in body if name.endswith("weight") and not torch.equal(learned[name], body[name])]
        assert moved

    def test_from_scratch_only_the_decoder_s_first_weights_are_the_same(self, settings, noise, tmp_path):
        paths = Paths(tmp_path)
        tuned = changed(settings, architecture=on_backbone(train_backbone=True), start="classifiers/parent")
        scratch = changed(tuned, start="scratch")
        first, second = (start_autoencoder("cell", one, noise, paths, seed=0).state_dict() for one in (tuned, scratch))
        assert first.keys() == second.keys()
        same = {name for name in first if torch.equal(first[name], second[name])}
        assert {name for name in first if not name.startswith("backbone.")} <= same
        assert "backbone.0.0.weight" not in same

    def test_from_scratch_a_whitening_backbone_is_fitted_to_the_images(self, settings, noise, tmp_path):
        backbone = {"name": "resnet9", "width": 4, "whitening": True}
        scratch = changed(settings, architecture=on_backbone(train_backbone=True, backbone=backbone))
        first, second = (start_autoencoder("cell", scratch, noise, Paths(tmp_path), seed=seed) for seed in (0, 1))
        assert torch.equal(first.backbone[0].weight, second.backbone[0].weight)  # random ones differ
        assert torch.equal(first.backbone[0].weight[:2], -first.backbone[0].weight[2:])

    def test_cross_entropy_trains_a_head_that_the_checkpoint_lacks(self, make, settings, compute, noise):
        rows = []
        tuned = changed(
            settings,
            architecture=on_backbone(train_backbone=True),
            start="classifiers/parent",
            loss=weights(l2=1.0, cross_entropy=1.0),
            backbone_rate=0.5,
        )
        checkpoint = make(tuned, log=lambda metrics, *, step: rows.append(metrics))
        assert {"train/top1", "val/top1"} <= rows[0].keys()
        assert rows[-1]["train/loss"] < rows[0]["train/loss"]
        assert checkpoint.state_dict.keys() == restore_autoencoder(checkpoint).state_dict().keys()
        without = make(changed(tuned, loss=weights(l2=1.0)))
        name = "backbone.0.0.weight"
        assert not torch.equal(checkpoint.state_dict[name], without.state_dict[name]), "the class moves the backbone"

    def test_a_missing_classifier_is_named(self, make, settings):
        wanted = changed(settings, architecture=on_backbone(train_backbone=True), start="classifiers/nobody")
        with pytest.raises(InputError, match=r"models/classifiers/nobody/0\.pt: no such file"):
            make(wanted)

    def test_a_checkpoint_of_another_architecture_is_refused(self, make, settings):
        wide = on_backbone(train_backbone=True, backbone={"name": "resnet9", "width": 4})
        with pytest.raises(InputError, match=r"autoencoders\.cell: architecture\.backbone: got name resnet9, width 4"):
            make(changed(settings, architecture=wide, start="classifiers/parent"))

    def test_a_classifier_of_other_images_is_refused(self, make, settings, classifier, tmp_path):
        save_checkpoint(Paths(tmp_path).classifier("parent"), replace(classifier, dataset="other", dataset_digest="0"))
        wanted = changed(settings, architecture=on_backbone(train_backbone=True), start="classifiers/parent")
        with pytest.raises(
            InputError, match=r"autoencoders\.cell\.start: got classifiers/parent: .* was trained on other"
        ):
            make(wanted)


class TestPrincipalComponents:
    @pytest.fixture
    def linear(self, settings):
        return Autoencoder(dataset="noise", architecture=Architecture(name="pca", num_components=5), start="scratch")

    def test_are_scikit_learn_s(self, make, linear, noise, compute):
        rows = []
        checkpoint = make(linear, log=lambda metrics, *, step: rows.append((step, metrics)))
        pixels = noise.train.images.transpose(0, 3, 1, 2).reshape(len(noise.train), -1) / 255.0
        test = noise.test.images.transpose(0, 3, 1, 2).reshape(len(noise.test), -1) / 255.0
        exact = PCA(5, svd_solver="full").fit(pixels)
        expected = exact.inverse_transform(exact.transform(test)).clip(0, 1)
        drawn = reconstruct(restore_autoencoder(checkpoint), noise.test, batch_size=5, compute=compute)
        # roughly: these images are noise, whose directions are all about as strong
        assert drawn.mse == pytest.approx(np.square(expected - test).mean(axis=1), rel=1e-2)
        assert [step for step, _ in rows] == [0]
        assert checkpoint.metrics["num_epochs"] == 0.0

    def test_more_than_there_are_images_are_refused(self, make, linear):
        many = linear.model_copy(update={"architecture": Architecture(name="pca", num_components=25)})
        with pytest.raises(InputError, match="got 25: expected at most 24, the number of training images"):
            make(many)


def test_patches_that_do_not_fit_the_images_are_refused(make, settings):
    with pytest.raises(InputError, match=r"masking\.patch_size: got 5: expected a divisor of the image size, 16"):
        make(changed(settings, masking=Masking(patch_size=5, share=0.25, evaluation_seed=0)))
    with pytest.raises(InputError, match=r"masking\.share: got 0\.01, which hides 0 of 16 patches"):
        make(changed(settings, masking=Masking(patch_size=4, share=0.01, evaluation_seed=0)))
