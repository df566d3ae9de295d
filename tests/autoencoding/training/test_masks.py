import pytest
import torch

from seesay.autoencoding.training.masks import hidden_pixels, num_hidden_patches, sample_hidden_patches
from seesay.core.errors import InputError
from seesay.params.autoencoding import Masking


def masking(patch_size=8, share=0.25):
    return Masking(patch_size=patch_size, share=share, evaluation_seed=0)


def drawn(count=50, *, seed=0, **changes):
    return sample_hidden_patches(
        count, masking(**changes), image_size=64, generator=torch.Generator().manual_seed(seed)
    )


def test_every_image_has_as_many_hidden_as_the_share_says():
    assert (drawn().sum(dim=(1, 2)) == 16).all()  # a quarter of 64
    assert (drawn(patch_size=16, share=0.3).sum(dim=(1, 2)) == 5).all()  # 4.8 of 16


def test_images_differ_and_every_patch_has_its_turn():
    patches = drawn(200)
    assert len(torch.unique(patches.flatten(1), dim=0)) == 200
    shares = patches.float().mean(dim=0)
    assert ((shares > 0.1) & (shares < 0.4)).all()


def test_the_same_generator_hides_the_same():
    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), drawn(seed=1))


def test_pixels_are_hidden_in_whole_patches():
    patches = torch.tensor([[[True, False], [False, False]]])
    pixels = hidden_pixels(patches, patch_size=2)
    assert pixels.shape == (1, 1, 4, 4)
    assert pixels.dtype == torch.bool
    assert pixels[0, 0].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patch_size": 7}, r"masking\.patch_size: got 7: expected a divisor of the image size, 64"),
        ({"share": 0.001}, r"masking\.share: got 0\.001, which hides 0 of 64 patches: expected 1 to 63"),
        ({"share": 0.999}, r"masking\.share: got 0\.999, which hides 64 of 64 patches"),
    ],
)
def test_masks_that_hide_nothing_all_or_parts_of_patches_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        num_hidden_patches(masking(**changes), image_size=64)
