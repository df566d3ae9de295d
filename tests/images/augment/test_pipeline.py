import pytest
import torch

from seesay.core.errors import InputError
from seesay.images.augment.pipeline import Draws, augment, draw, normalise
from seesay.params.training import Augmentation

PLAIN = Augmentation(flip=False, crop_padding=0, cutout=0.0)
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SIZE = 8


def changed(**changes):
    return PLAIN.model_copy(update=changes)


@pytest.fixture
def images():
    """Sixteen images in which no two pixels of a channel are alike."""
    generator = torch.Generator().manual_seed(0)
    order = [torch.randperm(SIZE * SIZE * 3, generator=generator) for _ in range(16)]
    return torch.stack(order).view(16, SIZE, SIZE, 3).to(torch.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augmented(images, augmentation, *, seed=0, **normalisation):
    draws = draw(len(images), augmentation, image_size=SIZE, generator=generator(seed))
    batch = augment(images, torch.arange(len(images)), draws, augmentation, **(normalisation or UNIT))
    return batch, draws


def pixels(batch):
    """Back to uint8 (n, S, S, 3)."""
    return batch.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)


def test_normalisation_is_the_one_worked_by_hand():
    image = torch.tensor([[[[51, 102, 255]]]], dtype=torch.uint8)  # 0.2, 0.4, 1.0
    result = normalise(image, mean=(0.2, 0.2, 0.5), std=(0.1, 0.1, 0.25))
    assert result.shape == (1, 3, 1, 1)
    assert result.flatten().tolist() == pytest.approx([0.0, 2.0, 2.0], abs=1e-5)


def test_without_augmentation_the_chosen_rows_come_as_they_are(images):
    rows = torch.tensor([3, 0, 3])
    draws = draw(3, PLAIN, image_size=SIZE, generator=generator())
    batch = augment(images, rows, draws, PLAIN, **UNIT)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels(batch), images[rows])


def test_flip_mirrors_about_half_of_the_images_left_to_right(images):
    batch, draws = augmented(images, changed(flip=True))
    assert 0 < int(draws.flip.sum()) < 16
    for image, result, flipped in zip(images, pixels(batch), draws.flip, strict=True):
        assert torch.equal(result, image.flip(1) if flipped else image)


def test_a_crop_is_a_window_of_the_image_padded_by_reflection(images):
    batch, draws = augmented(images, changed(crop_padding=3))
    padded = torch.nn.functional.pad(images.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), mode="reflect").byte()
    for image, result, top, left in zip(padded, pixels(batch), draws.top, draws.left, strict=True):
        window = image[:, top : top + SIZE, left : left + SIZE]
        assert torch.equal(result, window.permute(1, 2, 0))
    assert len(set(zip(draws.top.tolist(), draws.left.tolist(), strict=True))) > 8  # each image has its own


def test_a_flipped_crop_is_the_window_mirrored(images):
    both, draws = augmented(images, changed(crop_padding=3, flip=True))
    crop, same = augmented(images, changed(crop_padding=3))
    assert torch.equal(draws.top, same.top)
    assert torch.equal(draws.left, same.left)
    expected = torch.where(draws.flip[:, None, None, None], crop.flip(3), crop)
    assert torch.equal(both, expected)


def test_every_offset_of_a_crop_occurs_from_edge_to_edge():
    draws = draw(2000, changed(crop_padding=2), image_size=SIZE, generator=generator())
    assert sorted(set(draws.top.tolist())) == sorted(set(draws.left.tolist())) == [0, 1, 2, 3, 4]


def test_cutout_blanks_one_whole_square_with_the_mean_colour(images):
    """A share of 0.4 of 8 pixels is 3.2: squares of 3 by 3."""
    augmentation = changed(cutout=0.4)
    batch, draws = augmented(images, augmentation, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    untouched = normalise(images, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    for result, before, top, left in zip(batch, untouched, draws.cutout_top, draws.cutout_left, strict=True):
        expected = before.clone()
        expected[:, top : top + 3, left : left + 3] = 0.0
        assert torch.equal(result, expected)
        assert int((result == 0).all(0).sum()) == 9
    assert draws.cutout_top.max() <= SIZE - 3
    assert len(set(zip(draws.cutout_top.tolist(), draws.cutout_left.tolist(), strict=True))) > 8


def test_cutout_of_everything_leaves_nothing(images):
    batch, _ = augmented(images, changed(cutout=1.0))
    assert not batch.any()


def test_same_seed_same_batch_other_seed_another(images):
    augmentation = Augmentation(flip=True, crop_padding=2, cutout=0.3)
    first, second, other = (augmented(images, augmentation, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_turning_one_part_off_leaves_the_draws_of_the_others():
    all_on = draw(50, Augmentation(flip=True, crop_padding=2, cutout=0.5), image_size=SIZE, generator=generator())
    no_flip = draw(50, Augmentation(flip=False, crop_padding=2, cutout=0.5), image_size=SIZE, generator=generator())
    assert torch.equal(all_on.cutout_left, no_flip.cutout_left)
    assert torch.equal(all_on.top, no_flip.top)
    assert not no_flip.flip.any()


def test_draws_are_sliced_together():
    draws = draw(10, PLAIN, image_size=SIZE, generator=generator())
    part = draws[2:5]
    assert isinstance(part, Draws)
    assert torch.equal(part.cutout_top, draws.cutout_top[2:5])
    assert len(part.flip) == 3


def test_the_images_themselves_are_never_changed(images):
    before = images.clone()
    augmented(images, Augmentation(flip=True, crop_padding=2, cutout=0.5))
    augmented(images, PLAIN)
    assert torch.equal(images, before)


def test_padding_as_large_as_the_image_is_refused():
    with pytest.raises(InputError, match=r"augmentation\.crop_padding: got 8: expected less than the image size, 8"):
        draw(1, changed(crop_padding=8), image_size=SIZE, generator=generator())
