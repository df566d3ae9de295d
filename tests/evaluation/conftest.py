"""A packed dataset of a few small images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from seesay.classification.networks.registry import build_classifier
from seesay.compute import Compute, configure
from seesay.images.packed import (
    ImageClass,
    ImageSplit,
    PackedImages,
    channel_statistics,
    dataset_digest,
    split_digest,
)
from seesay.params.classification import Architecture
from seesay.params.training import Runtime
from seesay.sources.provenance import SourceFile, SourceNote
from seesay.training.checkpoint import Checkpoint, describe_architecture

SIZE = 16


@pytest.fixture
def compute() -> Compute:
    return configure(Runtime(device="cpu", precision="bfloat16", num_threads=1, deterministic=False, compile=False))


@pytest.fixture
def make_images() -> Callable[..., PackedImages]:
    def make(num_classes: int = 3, *, num_per_class: int = 4, seed: int = 0) -> PackedImages:
        """Class i's images are noise around a brightness of its own."""
        generator = np.random.default_rng(seed)

        def split(name: str) -> ImageSplit:
            labels = np.repeat(np.arange(num_classes), num_per_class)
            noise = generator.integers(0, 60, size=(len(labels), SIZE, SIZE, 3))
            images = (noise + (190 * labels // max(1, num_classes - 1))[:, None, None, None]).astype(np.uint8)
            return ImageSplit(images, labels, tuple(f"{name}_{i}" for i in range(len(labels))))

        splits = {name: split(name) for name in ("train", "val", "test")}
        classes = tuple(ImageClass(f"n{i}", f"word {i}") for i in range(num_classes))
        mean, std = channel_statistics(splits["train"].images)
        return PackedImages(
            **splits,
            classes=classes,
            image_size=SIZE,
            channel_mean=mean,
            channel_std=std,
            name="tiny",
            digest=dataset_digest(classes, {name: split_digest(one) for name, one in splits.items()}),
            source=SourceNote("made_up", (SourceFile("a.zip", "https://x/a.zip", "0" * 64, 1, "md5:0", True),)),
        )

    return make


@pytest.fixture
def new_checkpoint() -> Callable[..., Checkpoint]:
    """The checkpoint of an untrained classifier of `make_images`' classes."""

    def new(images: PackedImages, architecture: Architecture, *, seed: int = 0) -> Checkpoint:
        sizes = {"num_classes": images.num_classes, "image_size": images.image_size}
        return Checkpoint(
            kind="classifier",
            dataset="tiny",
            dataset_digest=images.digest,
            classes=tuple(one.wnid for one in images.classes),
            vocabulary_digest="",
            architecture=describe_architecture(architecture),
            sizes=sizes,
            settings={},
            normalisation={},
            state_dict=build_classifier(architecture, **sizes, seed=seed, key="x").state_dict(),
            metrics={},
        )

    return new
