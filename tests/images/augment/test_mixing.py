import pytest
import torch

from seesay.images.augment.mixing import Mixes, draw_mixes, mix
from seesay.params.training import Mixing

MIXUP = Mixing(mixup_alpha=0.4, cutmix_alpha=0.0, probability=1.0)
CUTMIX = Mixing(mixup_alpha=0.0, cutmix_alpha=1.0, probability=1.0)
BOTH = Mixing(mixup_alpha=0.4, cutmix_alpha=1.0, probability=1.0)
NUM = 64
SIZE = 16


@pytest.fixture
def images():
    """Images of one level each, which is their row's number."""
    levels = torch.arange(NUM, dtype=torch.float32)[:, None, None, None]
    return levels.expand(NUM, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)


def mixed(images, settings, seed=0):
    """With a class for each image, label probabilities say which images a result consists of."""
    mixes = draw_mixes(len(images), settings, seed=seed)
    return *mix(images, torch.arange(len(images)), mixes, num_classes=len(images)), mixes


def test_mixup_is_the_one_worked_by_hand():
    """Levels 10 and 50 in shares of 0.75 and 0.25, then of 0.4 and 0.6, are 20 and 26."""
    images = torch.tensor([10.0, 50.0])[:, None, None, None].expand(2, 3, 4, 4)
    mixes = Mixes(torch.tensor([0.75, 0.4]), torch.tensor([False, False]), torch.rand(2, 2), torch.tensor([7, 3]))
    batch, labels = mix(images, torch.tensor([2, 0]), mixes, num_classes=3)
    torch.testing.assert_close(batch[:, 0, 0, 0], torch.tensor([20.0, 26.0]))
    torch.testing.assert_close(labels, torch.tensor([[0.25, 0.0, 0.75], [0.4, 0.0, 0.6]]))


def test_cutmix_is_the_one_worked_by_hand():
    """Of 4 by 4 pixels a quarter is a box of 2 by 2: rows and columns 1 to 2; at the corner one pixel is left of it."""
    images = torch.tensor([10.0, 50.0])[:, None, None, None].expand(2, 3, 4, 4)
    centre = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    mixes = Mixes(torch.tensor([0.75, 0.75]), torch.tensor([True, True]), centre, torch.tensor([0, 0]))
    batch, labels = mix(images, torch.tensor([0, 1]), mixes, num_classes=2)
    assert batch[0, 0].tolist() == [[10, 10, 10, 10], [10, 50, 50, 10], [10, 50, 50, 10], [10, 10, 10, 10]]
    assert batch[1, 2].tolist() == [[10, 50, 50, 50], [50, 50, 50, 50], [50, 50, 50, 50], [50, 50, 50, 50]]
    torch.testing.assert_close(labels, torch.tensor([[12 / 16, 4 / 16], [1 / 16, 15 / 16]]))


@pytest.mark.parametrize("settings", [MIXUP, CUTMIX, BOTH])
def test_labels_have_the_shares_of_the_pixels(images, settings):
    batch, labels, _ = mixed(images, settings)
    assert labels.dtype == torch.float32
    torch.testing.assert_close(labels.sum(1), torch.ones(NUM))
    levels = labels @ torch.arange(NUM, dtype=torch.float32)
    torch.testing.assert_close(batch.mean(dim=(1, 2, 3)), levels, rtol=0, atol=1e-4)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_every_image_is_mixed_with_another_one_in_a_share_of_its_own(images):
    _, labels, mixes = mixed(images, MIXUP)
    partners = labels.clone().fill_diagonal_(0.0)
    assert ((partners > 0).sum(1) <= 1).all()
    assert (partners > 0).any(1).float().mean() > 0.95  # some keep all but nothing of themselves
    assert len(set(partners.argmax(1).tolist())) > 25
    assert len(set(mixes.own_share.tolist())) == NUM


def test_cutmix_takes_whole_pixels_from_one_box(images):
    batch, _, _ = mixed(images, CUTMIX)
    for row, image in enumerate(batch[:, 0]):
        replaced = image != row
        height, width = int(replaced.any(1).sum()), int(replaced.any(0).sum())
        assert int(replaced.sum()) == height * width
        assert len(image[replaced].unique()) <= 1


def test_shares_come_from_a_beta_distribution():
    """Beta(a, a) has mean 1 / 2 and variance 1 / (4 (2 a + 1)): 1 / 7.2 for a = 0.4, 1 / 12 for a = 1."""
    for settings, variance in ((MIXUP, 1 / 7.2), (CUTMIX, 1 / 12)):
        shares = draw_mixes(20000, settings, seed=0).own_share
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(shares.var()) == pytest.approx(variance, rel=0.03)


def test_with_both_kinds_each_image_takes_one_by_a_coin():
    both, mixup, cutmix = (draw_mixes(2000, settings, seed=0) for settings in (BOTH, MIXUP, CUTMIX))
    assert 900 < int(both.is_cut.sum()) < 1100
    assert torch.equal(both.own_share, torch.where(both.is_cut, cutmix.own_share, mixup.own_share))
    assert not mixup.is_cut.any()
    assert cutmix.is_cut.all()


def test_images_that_are_not_mixed_stay_as_they_are(images):
    some = Mixing(mixup_alpha=1.0, cutmix_alpha=1.0, probability=0.3)
    batch, labels, mixes = mixed(images, some)
    untouched = mixes.own_share == 1.0
    assert 30 < int(untouched.sum()) < 60
    assert torch.equal(batch[untouched], images[untouched])
    assert torch.equal(labels[untouched], torch.eye(NUM)[untouched])


def test_two_images_of_one_class_stay_of_that_class(images):
    mixes = draw_mixes(NUM, BOTH, seed=0)
    _, labels = mix(images, torch.full((NUM,), 3), mixes, num_classes=5)
    torch.testing.assert_close(labels, torch.eye(5)[3].expand(NUM, 5))


def test_a_batch_of_one_image_stays_as_it_is(images):
    batch, labels, _ = mixed(images[5:6], BOTH)
    assert torch.equal(batch, images[5:6])
    assert labels.tolist() == [[1.0]]


def test_the_batch_given_is_not_changed(images):
    before = images.clone()
    mixed(images, BOTH)
    assert torch.equal(images, before)
