"""One contract for every autoencoder."""

import pytest
import torch
import torch.nn.functional as F

from seesay.errors import InputError
from seesay.models.autoencoders import AUTOENCODERS, build_autoencoder, restore_autoencoder
from seesay.models.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint
from seesay.params.experiments import Architecture

SMALL = {"conv_autoencoder": {"width": 4, "latent_channels": 2}}


def build(name, *, seed=0, image_size=16, **changes):
    architecture = Architecture(name=name, **{**SMALL[name], **changes})
    return build_autoencoder(architecture, image_size=image_size, seed=seed, key="autoencoders.x.architecture")


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_every_autoencoder_is_tested_here():
    assert set(SMALL) == set(AUTOENCODERS)


@pytest.mark.parametrize("name", AUTOENCODERS)
class TestEveryAutoencoder:
    def test_draws_images_of_the_same_shape_in_the_unit_range(self, name, images):
        drawn = build(name)(images)
        assert drawn.shape == images.shape
        assert ((drawn >= 0) & (drawn <= 1)).all()

    def test_gives_every_parameter_a_gradient(self, name, images):
        autoencoder = build(name)
        F.mse_loss(autoencoder(images), images).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in autoencoder.parameters())

    def test_starts_the_same_for_the_same_seed(self, name):
        first, second, other = (build(name, seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_comes_back_from_its_file(self, name, images, tmp_path):
        autoencoder = build(name)
        autoencoder(images)
        checkpoint = Checkpoint(
            kind="autoencoder",
            dataset="x",
            dataset_digest="",
            classes=(),
            vocabulary_digest="",
            architecture=describe_architecture(Architecture(name=name, **SMALL[name])),
            sizes={"image_size": 16},
            settings={},
            normalisation={},
            state_dict=autoencoder.state_dict(),
            metrics={},
        )
        save_checkpoint(tmp_path / "model.pt", checkpoint)
        restored = restore_autoencoder(load_checkpoint(tmp_path / "model.pt", kind="autoencoder"))
        assert torch.equal(restored(images), autoencoder.eval()(images))


def test_a_64_pixel_image_passes_through_1024_numbers():
    autoencoder = build("conv_autoencoder", image_size=64, width=32, latent_channels=16)
    assert autoencoder.encoder(torch.zeros(1, 3, 64, 64)).numel() == 1024


def test_an_image_size_that_cannot_be_halved_thrice_is_refused():
    with pytest.raises(InputError, match=r"autoencoders\.x\.architecture: .*that 8 divides, got 20"):
        build("conv_autoencoder", image_size=20)
