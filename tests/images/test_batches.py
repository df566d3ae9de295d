from dataclasses import replace

import numpy as np
import pytest
import torch

from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import (
    balanced_order,
    load_images,
    num_training_batches,
    ordered_batches,
    training_batches,
)
from seesay.images.packed import ImageSplit
from seesay.params.training import Augmentation, Mixing
from seesay.ranks import Ranks
from seesay.seeding import torch_generator

CPU = Compute(torch.device("cpu"), None, num_threads=1, deterministic=True, compile=False)

AUGMENTATION = Augmentation(flip=True, crop_padding=1, cutout=0.25)
PLAIN = Augmentation(flip=False, crop_padding=0, cutout=0.0)
ALTERNATING = Augmentation(flip="alternating")


@pytest.fixture
def loaded():
    """Ten images of one colour each, which is ten times the label."""
    labels = np.arange(10, dtype=np.int64)
    images = np.broadcast_to((10 * labels).astype(np.uint8)[:, None, None, None], (10, 8, 8, 3))
    split = ImageSplit(images, labels, tuple(map(str, labels)))
    return load_images(split, mean=(0.0,) * 3, std=(1.0,) * 3, compute=CPU)


def epoch(loaded, number, *, seed=0, augmentation=PLAIN):
    return list(training_batches(loaded, number, batch_size=4, augmentation=augmentation, seed=seed))


def test_images_and_labels_stay_together(loaded):
    for images, labels in epoch(loaded, 1):
        assert torch.equal((images[:, 0, 0, 0] * 25.5).round().long(), labels)


def test_an_epoch_has_whole_batches_of_different_images(loaded):
    batches = epoch(loaded, 1)
    assert [len(labels) for _, labels in batches] == [4, 4]
    assert len(set(torch.cat([labels for _, labels in batches]).tolist())) == 8
    assert num_training_batches(10, batch_size=4) == 2


def test_fewer_images_than_a_batch_make_one_small_batch(loaded):
    assert num_training_batches(10, batch_size=64) == 1
    (batch,) = training_batches(loaded, 1, batch_size=64, augmentation=PLAIN, seed=0)
    assert len(batch[1]) == 10


def test_what_one_epoch_leaves_out_another_shows(loaded):
    seen = {label for number in range(1, 8) for _, labels in epoch(loaded, number) for label in labels.tolist()}
    assert seen == set(range(10))


def test_an_epoch_depends_on_its_number_and_the_seed_alone(loaded):
    def flat(number, seed=0):
        return torch.cat(
            [images.flatten() for images, _ in epoch(loaded, number, seed=seed, augmentation=AUGMENTATION)]
        )

    assert torch.equal(flat(3), flat(3))
    assert not torch.equal(flat(3), flat(4))
    assert not torch.equal(flat(3), flat(3, seed=1))


def test_evaluation_sees_every_image_once_in_order(loaded):
    batches = list(ordered_batches(loaded, batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(10))
    images = torch.cat([images for images, _ in batches])
    assert torch.equal((images * 25.5).round()[:, 0, 0, 0].long(), torch.arange(10))


MIXED = PLAIN.model_copy(update={"mixing": Mixing(mixup_alpha=1.0, cutmix_alpha=1.0, probability=1.0)})


def test_mixed_images_have_mixed_labels(loaded):
    """Images of one colour each, ten times their label: the labels' mean is a tenth of the pixels' mean."""
    batches = list(training_batches(loaded, 1, batch_size=5, augmentation=MIXED, seed=0, num_classes=10))
    assert len(batches) == 2
    for images, labels in batches:
        assert labels.shape == (5, 10)
        assert (labels > 0).sum() > 5
        expected = labels @ torch.arange(10, dtype=torch.float32)
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)) * 25.5, expected)


def test_where_there_are_no_classes_mixing_is_refused(loaded):
    with pytest.raises(InputError, match=r"augmentation\.mixing: expected none where no class labels are used"):
        next(training_batches(loaded, 1, batch_size=5, augmentation=MIXED, seed=0))


def test_batches_come_at_the_size_asked_for_with_the_same_labels(loaded):
    small = list(training_batches(loaded, 1, batch_size=4, augmentation=AUGMENTATION, seed=0, size=6))
    full = epoch(loaded, 1, augmentation=AUGMENTATION)
    for (images, labels), (_, same) in zip(small, full, strict=True):
        assert images.shape == (4, 3, 6, 6)
        assert torch.equal(labels, same)


def test_alternating_flips_mirror_an_image_in_every_second_epoch():
    labels = np.arange(10, dtype=np.int64)
    images = np.zeros((10, 8, 8, 3), dtype=np.uint8)
    images[:, :, :4] = 200  # bright on the left
    split = ImageSplit(images, labels, tuple(map(str, labels)))
    loaded = load_images(split, mean=(0.0,) * 3, std=(1.0,) * 3, compute=CPU)

    def mirrored(number):
        batches = training_batches(loaded, number, batch_size=10, augmentation=ALTERNATING, seed=0)
        ((pixels, order),) = batches
        return dict(zip(order.tolist(), (pixels[:, 0, 0, 0] == 0).tolist(), strict=True))

    first = mirrored(1)
    assert 0 < sum(first.values()) < 10
    assert mirrored(2) == {label: not is_mirrored for label, is_mirrored in first.items()}
    assert mirrored(3) == first


def test_a_balanced_epoch_has_classes_and_their_images_equally_often():
    labels = torch.tensor([0] * 70 + [1] * 25 + [2] * 5)
    seen = []
    for number in range(3):
        order = balanced_order(labels, generator=torch_generator(0, "balanced order", number))
        assert len(order) == 100
        assert sorted(torch.bincount(labels[order]).tolist()) == [33, 33, 34]
        times = torch.bincount(order, minlength=100)
        assert set(times[:70].tolist()) == {0, 1}
        assert set(times[70:95].tolist()) <= {1, 2}
        assert set(times[95:].tolist()) <= {6, 7}
        assert labels[order[:50]].bincount(minlength=3).min() > 5, "classes come mixed"
        seen.append(order.tolist())
    assert seen[0] != seen[1]
    again = balanced_order(labels, generator=torch_generator(0, "balanced order", 0))
    assert again.tolist() == seen[0]


def test_a_balanced_order_of_fewer_images_than_classes_could_have():
    order = balanced_order(torch.tensor([0, 0, 4]), generator=torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) in ([0, 1, 2], [0, 2, 2], [1, 2, 2])


def test_balanced_batches_keep_images_and_labels_together_also_mirrored():
    labels = np.array([0] * 9 + [1] * 3, dtype=np.int64)
    images = np.broadcast_to((10 * np.arange(12)).astype(np.uint8)[:, None, None, None], (12, 8, 8, 3))
    split = ImageSplit(images, labels, tuple(map(str, labels)))
    loaded = load_images(split, mean=(0.0,) * 3, std=(1.0,) * 3, compute=CPU)
    batches = list(training_batches(loaded, 1, batch_size=4, augmentation=ALTERNATING, seed=0, balanced=True))
    values = torch.cat([(images[:, 0, 0, 0] * 25.5).round().long() for images, _ in batches])
    assert torch.equal(torch.cat([labels for _, labels in batches]), (values >= 9).long())
    assert (values >= 9).sum() == 6


@pytest.mark.parametrize("mixing", [None, Mixing(mixup_alpha=0.8, cutmix_alpha=1.0, probability=0.7)])
def test_batches_read_from_a_file_are_those_of_memory(tmp_path, mixing):
    """A split that takes more than its share of memory stays in its file, and every batch has the same bits."""
    pixels = np.random.default_rng(0).integers(0, 256, (22, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    split = ImageSplit(stored, np.arange(22) % 5, tuple(map(str, range(22))))
    held, mapped = (
        load_images(split, mean=(0.1,) * 3, std=(0.9,) * 3, compute=replace(CPU, memory_share=share))
        for share in (1.0, 0.0)
    )
    assert isinstance(held.images, torch.Tensor)
    assert not isinstance(mapped.images, torch.Tensor)
    augmentation = AUGMENTATION.model_copy(update={"mixing": mixing})
    for take in (
        lambda images: training_batches(images, 1, batch_size=4, augmentation=augmentation, seed=0, num_classes=5),
        lambda images: ordered_batches(images, batch_size=4),
    ):
        for (first, labels), (second, same) in zip(take(held), take(mapped), strict=True):
            assert torch.equal(first, second)
            assert torch.equal(labels, same)


@pytest.mark.parametrize("augmentation", [AUGMENTATION, MIXED])
def test_the_parts_of_all_ranks_are_the_batch(loaded, augmentation):
    def take(ranks):
        return list(
            training_batches(loaded, 1, batch_size=5, augmentation=augmentation, seed=0, num_classes=10, ranks=ranks)
        )

    whole, parts = take(Ranks()), [take(Ranks(rank, 2)) for rank in range(2)]
    for (images, labels), *of_ranks in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([one for one, _ in of_ranks]), images)
        assert torch.equal(torch.cat([one for _, one in of_ranks]), labels)
