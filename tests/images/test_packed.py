"""Packed image splits on disk."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seesay.core.errors import InputError
from seesay.images.packed import (
    ImageClass,
    ImageSplit,
    PackedImages,
    channel_statistics,
    dataset_digest,
    read_manifest,
    read_packed_images,
    split_digest,
    write_packed_images,
)
from seesay.sources.provenance import SourceNote


@pytest.fixture
def packed() -> PackedImages:
    rng = np.random.default_rng(0)
    splits = {
        name: ImageSplit(
            rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8),
            np.arange(count) % 2,
            tuple(f"{name}/{number}.JPEG" for number in range(count)),
        )
        for name, count in (("train", 4), ("val", 2), ("test", 2))
    }
    classes = (ImageClass("n1", "goldfish"), ImageClass("n2", "goose"))
    mean, std = channel_statistics(splits["train"].images)
    return PackedImages(
        **splits,
        classes=classes,
        image_size=4,
        channel_mean=mean,
        channel_std=std,
        name="two",
        digest=dataset_digest(classes, {name: split_digest(split) for name, split in splits.items()}),
        source=SourceNote("somewhere", ()),
    )


@pytest.fixture
def folder(packed, tmp_path) -> Path:
    write_packed_images(tmp_path / "two", packed)
    return tmp_path / "two"


def test_what_was_written_is_read_memory_mapped(packed, folder):
    found = read_packed_images(folder)
    for name, split in packed.splits.items():
        assert np.array_equal(found.splits[name].images, split.images)
        assert np.array_equal(found.splits[name].labels, split.labels)
        assert found.splits[name].ids == split.ids
        assert isinstance(found.splits[name].images, np.memmap)
        assert not found.splits[name].images.flags.writeable
    assert (found.classes, found.num_classes, found.digest) == (packed.classes, 2, packed.digest)
    assert (found.channel_mean, found.channel_std) == (packed.channel_mean, packed.channel_std)
    manifest = read_manifest(folder)
    assert (manifest.num_images, manifest.num_classes) == ({"train": 4, "val": 2, "test": 2}, 2)


def test_equal_datasets_are_equal_bytes(packed, folder, tmp_path):
    write_packed_images(tmp_path / "again", packed)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_channel_statistics_are_those_of_numpy():
    images = np.random.default_rng(1).integers(0, 256, (1500, 3, 2, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    assert np.allclose(mean, (images / 255).mean(axis=(0, 1, 2)), atol=1e-12)
    assert np.allclose(std, (images / 255).std(axis=(0, 1, 2)), atol=1e-12)


def test_the_digest_tells_pixels_labels_and_names_apart():
    images, labels = np.zeros((2, 1, 1, 3), np.uint8), np.array([0, 1])
    digests = {
        split_digest(ImageSplit(images, labels, ("a", "b"))),
        split_digest(ImageSplit(images + np.uint8(1), labels, ("a", "b"))),
        split_digest(ImageSplit(images, labels[::-1], ("a", "b"))),
        split_digest(ImageSplit(images, labels, ("a", "c"))),
    }
    assert len(digests) == 4


@pytest.mark.parametrize("name", ["train_images.npy", "val_labels.npy", "ids.json", "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        read_packed_images(folder)


def test_a_cut_file_is_named(folder):
    path = folder / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"train_images.npy: not a readable .npy array"):
        read_packed_images(folder)


def test_one_changed_byte_is_noticed(folder):
    content = bytearray((folder / "test_images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "test_images.npy").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"test does not match manifest.json; run prepare_images again"):
        read_packed_images(folder)


def test_an_array_of_another_shape_is_refused(folder):
    np.save(folder / "val_labels.npy", np.zeros(3, np.int64))
    with pytest.raises(
        InputError, match=r"val_labels.npy: expected int64 \(2,\) as in manifest.json, got int64 \(3,\)"
    ):
        read_packed_images(folder)


def test_a_changed_manifest_is_refused(folder):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "classes": content["classes"][::-1]}))
    with pytest.raises(InputError, match=r"manifest.json: the digest does not match the classes and splits"):
        read_manifest(folder)
    path.write_text(json.dumps({"name": "two"}))
    with pytest.raises(InputError, match=r"manifest.json: not a manifest of packed images"):
        read_manifest(folder)


def test_a_disk_that_fills_up_leaves_the_earlier_dataset_as_it_was(packed, folder, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_packed_images(folder, packed)
    assert [path.name for path in folder.parent.iterdir()] == ["two"]
    monkeypatch.undo()
    assert read_packed_images(folder).digest == packed.digest


def test_a_really_full_disk_is_an_error_with_the_file_and_leaves_nothing(packed, small_disk):
    large = np.zeros((100, 64, 64, 3), np.uint8)  # 1.2 MB on 128 kB
    train = ImageSplit(large, np.zeros(100, np.int64), tuple(map(str, range(100))))
    with pytest.raises(OSError, match=r"train_images\.npy"):
        write_packed_images(small_disk / "two", replace(packed, train=train))
    assert list(small_disk.iterdir()) == []
