"""Packed splits of an image dataset: writing them, and reading them memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seesay.arrays import read_array, write_array
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, read_json, write_json
from seesay.sources.provenance import SourceNote

SPLITS = ("train", "val", "test")
MANIFEST_FILE = "manifest.json"
IDS_FILE = "ids.json"
HINT = "run prepare_images again"


@dataclass(frozen=True)
class ImageClass:
    """A class: its WordNet id and its common name."""

    wnid: str
    label: str


@dataclass(frozen=True)
class ImageSplit:
    """A split of N images.

    `images` are RGB, uint8 (N, H, W, 3). `labels` are int64 (N,): positions in the dataset's classes.
    `ids` has N names.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ImagesManifest:
    """The description of a packed dataset, without its arrays.

    Mean and standard deviation are those of train, per channel, of values in [0, 1].
    """

    name: str
    classes: tuple[ImageClass, ...]
    image_size: int
    num_images: dict[str, int]
    channel_mean: tuple[float, float, float]
    channel_std: tuple[float, float, float]
    split_digests: dict[str, str]
    digest: str
    source: SourceNote

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class PackedImages:
    """An image dataset with its three splits."""

    train: ImageSplit
    val: ImageSplit
    test: ImageSplit
    classes: tuple[ImageClass, ...]
    image_size: int
    channel_mean: tuple[float, float, float]
    channel_std: tuple[float, float, float]
    name: str
    digest: str
    source: SourceNote

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def splits(self) -> dict[str, ImageSplit]:
        return {"train": self.train, "val": self.val, "test": self.test}


def split_digest(split: ImageSplit) -> str:
    """Return the sha256 of a split's shape, ids, pixels and labels."""
    digest = hashlib.sha256(json.dumps([list(split.images.shape), list(split.ids)]).encode())
    digest.update(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()


def dataset_digest(classes: Sequence[ImageClass], digests: dict[str, str]) -> str:
    """Return the sha256 of the classes and the splits' digests. It does not depend on the dataset's name."""
    content = {"classes": [asdict(image_class) for image_class in classes], "splits": digests}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation per channel of uint8 images (N, H, W, 3), scaled to [0, 1].

    Both are exact: they are computed from the counts of the 256 levels.
    """
    values = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(3):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 1024):  # in parts, to avoid a copy of a large split
            counts += np.bincount(images[start : start + 1024, ..., channel].ravel(), minlength=256)
        shares = counts / counts.sum()
        mean = float(shares @ values)
        means.append(mean)
        deviations.append(float(np.sqrt(shares @ (values - mean) ** 2)))
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])


def write_packed_images(folder: Path, packed: PackedImages) -> None:
    """Write images and labels of each split, `ids.json` and `manifest.json` to `folder`, all or nothing."""
    with atomic_directory(folder) as temporary:
        for name, split in packed.splits.items():
            write_array(temporary / f"{name}_images.npy", split.images)
            write_array(temporary / f"{name}_labels.npy", split.labels)
        write_json(temporary / IDS_FILE, {name: list(split.ids) for name, split in packed.splits.items()})
        write_json(
            temporary / MANIFEST_FILE,
            {
                "name": packed.name,
                "classes": [asdict(image_class) for image_class in packed.classes],
                "image_size": packed.image_size,
                "num_images": {name: len(split) for name, split in packed.splits.items()},
                "channel_mean": list(packed.channel_mean),
                "channel_std": list(packed.channel_std),
                "split_digests": {name: split_digest(split) for name, split in packed.splits.items()},
                "digest": packed.digest,
                "source": packed.source.to_json(),
            },
        )


def read_manifest(folder: Path) -> ImagesManifest:
    """Read the manifest in `folder`. Raises `InputError` where it is missing or damaged."""
    path = folder / MANIFEST_FILE
    content: Any = read_json(path)
    try:
        mean, std = (tuple(map(float, content[key])) for key in ("channel_mean", "channel_std"))
        if len(mean) != 3 or len(std) != 3:
            raise ValueError("channel_mean and channel_std have three values")
        manifest = ImagesManifest(
            name=str(content["name"]),
            classes=tuple(ImageClass(**image_class) for image_class in content["classes"]),
            image_size=int(content["image_size"]),
            num_images={split: int(content["num_images"][split]) for split in SPLITS},
            channel_mean=(mean[0], mean[1], mean[2]),
            channel_std=(std[0], std[1], std[2]),
            split_digests={split: str(content["split_digests"][split]) for split in SPLITS},
            digest=str(content["digest"]),
            source=SourceNote.from_json(content["source"], where=path),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a manifest of packed images ({type(error).__name__}: {error}); {HINT}") from None
    if dataset_digest(manifest.classes, manifest.split_digests) != manifest.digest:
        raise InputError(f"{path}: the digest does not match the classes and splits; {HINT}")
    return manifest


def read_packed_images(folder: Path) -> PackedImages:
    """Read the dataset in `folder`, with arrays memory-mapped read-only.

    Every byte is checked against the manifest, which takes about a second per GB. A damaged, exchanged or truncated
    file raises `InputError`, which names the file or its split.
    """
    manifest = read_manifest(folder)
    ids: Any = read_json(folder / IDS_FILE)
    splits = {split: _read_split(folder, split, ids, manifest) for split in SPLITS}
    return PackedImages(
        **splits,
        classes=manifest.classes,
        image_size=manifest.image_size,
        channel_mean=manifest.channel_mean,
        channel_std=manifest.channel_std,
        name=manifest.name,
        digest=manifest.digest,
        source=manifest.source,
    )


def _read_split(folder: Path, name: str, ids: Any, manifest: ImagesManifest) -> ImageSplit:
    size, count = manifest.image_size, manifest.num_images[name]
    images = _checked(folder / f"{name}_images.npy", (count, size, size, 3), np.uint8)
    labels = _checked(folder / f"{name}_labels.npy", (count,), np.int64)
    if not isinstance(ids, dict) or not isinstance(ids.get(name), list) or len(ids[name]) != count:
        raise InputError(f"{folder / IDS_FILE}: expected {count} names under {name}; {HINT}")
    split = ImageSplit(images, labels, tuple(map(str, ids[name])))
    if split_digest(split) != manifest.split_digests[name]:
        raise InputError(f"{folder}: {name} does not match {MANIFEST_FILE}; {HINT}")
    return split


def _checked(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    array = read_array(path, mmap=True)
    if array.shape != shape or array.dtype != dtype:
        raise InputError(
            f"{path}: expected {np.dtype(dtype)} {shape} as in {MANIFEST_FILE}, got {array.dtype} {array.shape}; {HINT}"
        )
    return array
