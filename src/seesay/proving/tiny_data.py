"""Generated data and random weights for tiny runs, written in the pipeline's formats."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from seesay.arrays import write_array
from seesay.captioning.data.records import CaptionRecord, CaptionRecords, collect_records, write_caption_records
from seesay.captioning.data.vocabulary import build_vocabulary, write_vocabulary
from seesay.captioning.features.encoders import UNTRAINED_ENCODERS
from seesay.captioning.features.origin import CLASSIFIER, Origin, write_finetuned_origin
from seesay.captioning.features.store import num_rows_with_views, write_features
from seesay.captioning.features.trainable import trainable_classifier, trainable_network
from seesay.classification.networks.published import build_published, preprocessing_of
from seesay.classification.networks.registry import build_classifier
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import validate
from seesay.images.packed import (
    ImageClass,
    ImageSplit,
    PackedImages,
    channel_statistics,
    dataset_digest,
    split_digest,
    write_packed_images,
)
from seesay.params.classification import Architecture
from seesay.params.datasets import Features
from seesay.seeding import numpy_generator, seed_torch
from seesay.sources.provenance import SourceFile, SourceNote, read_source, write_architecture, write_source
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint

NUM_CLASSES, IMAGE_SIZE = 6, 32
NUM_IMAGES = {"train": 24, "val": 10, "test": 1}
NUM_CAPTIONED = {"train": 8, "val": 4, "test": 1}
RING = 11
FEATURE_SIZE, NUM_PLACES = 10, 4

COLOURS = ((190, 40, 40), (40, 170, 60), (50, 60, 200), (180, 170, 40), (150, 60, 160), (90, 90, 90))
NAMES = ("red", "green", "blue", "yellow", "purple", "grey")


def write_images(paths: Paths, name: str, *, val_shift: int = 0, num_of_last: int = 1) -> PackedImages:
    """Write images of coloured discs on noise, in six classes. Return the packed dataset.

    For each image of another class there are `num_of_last` of the last class.

    `val_shift` shifts the labels of val, so that they are wrong: the better the network fits train, the worse are its
    results on val, and the patience of the training runs out.
    """
    splits = {split: _image_split(split, count, num_of_last) for split, count in NUM_IMAGES.items()}
    splits["val"] = replace(splits["val"], labels=(splits["val"].labels + val_shift) % NUM_CLASSES)
    mean, std = channel_statistics(splits["train"].images)
    classes = tuple(ImageClass(f"n{index}", label) for index, label in enumerate(NAMES))
    packed = PackedImages(
        **splits,
        classes=classes,
        image_size=IMAGE_SIZE,
        channel_mean=mean,
        channel_std=std,
        name=name,
        digest=dataset_digest(classes, {split: split_digest(part) for split, part in splits.items()}),
        source=SourceNote(name, ()),
    )
    write_packed_images(paths.images(name), packed)
    return packed


def write_classifier(paths: Paths, cell: str, architecture: Architecture, images: PackedImages) -> None:
    """Write checkpoints of two classifiers with random weights, as if they had been trained on `images`."""
    for seed in (1, 2):
        network = build_classifier(
            architecture, num_classes=images.num_classes, image_size=IMAGE_SIZE, seed=seed, key=cell
        )
        checkpoint = Checkpoint(
            kind="classifier",
            dataset=images.name,
            dataset_digest=images.digest,
            classes=tuple(one.wnid for one in images.classes),
            vocabulary_digest="",
            architecture=describe_architecture(architecture),
            sizes={"num_classes": images.num_classes, "image_size": IMAGE_SIZE},
            settings={},
            normalisation={"mean": list(images.channel_mean), "std": list(images.channel_std)},
            state_dict=_with_statistics(network, IMAGE_SIZE).state_dict(),
            metrics={},
        )
        save_checkpoint(paths.classifier(cell, seed - 1), checkpoint)


def write_weights(paths: Paths, network: str) -> None:
    """Write random weights of timm's model `network`.

    For an encoder of fixed filters, only the architecture and a source note without files are written.
    """
    folder = paths.weights(network)
    folder.mkdir(parents=True)
    write_architecture(folder, network)
    if network in UNTRAINED_ENCODERS:
        write_source(folder, SourceNote(network, ()))
        return
    seed_torch(0, "tiny_data", network)
    built = build_published(network)
    size = preprocessing_of(built).image_size
    torch.save(_with_statistics(built, size).state_dict(), folder / "weights.pth")
    write_source(folder, SourceNote(network, (_source_file(folder / "weights.pth"),)))


def write_captions(paths: Paths, name: str) -> CaptionRecords:
    """Write images of coloured discs, most of them not square, with captions. Return their records."""
    folder, random = paths.raw_captions(name), numpy_generator(0, "tiny_data", name)
    folder.mkdir(parents=True)
    records = []
    splits = [split for split, count in NUM_CAPTIONED.items() for _ in range(count)]
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number, split in enumerate(splits):
            width, height = ((44, 44), (52, 40), (40, 56))[number % 3]
            label, other = number % 6, int(random.integers(6))
            # One val image has its own word, so that the other word is worth something in CIDEr-D.
            thing = "ring" if number == RING else name.removesuffix("s")
            buffer = io.BytesIO()
            Image.fromarray(_disc(label, width, height, random)).save(buffer, "PNG")
            archive.writestr(f"{number}.png", buffer.getvalue())
            captions = (
                f"a {NAMES[label]} {thing}",
                f"a {thing} that is {NAMES[label]} beside a {NAMES[other]} one"[: None if number % 2 else 22],
                f"one {NAMES[label]} {thing} number {number}",
            )
            records.append(CaptionRecord(number, f"{number}.png", "images.zip", split, captions, width, height))
    captioned = collect_records(name, records, SourceNote(name, (_source_file(folder / "images.zip"),)))
    write_caption_records(paths.captions(name), captioned)
    return captioned


def write_vocabularies(paths: Paths, first: CaptionRecords, second: CaptionRecords) -> None:
    """Write the vocabulary of the first dataset, under its name, and that of both datasets, named `both`.

    Numbers are too rare to be in them.
    """
    write_vocabulary(paths.vocabulary(first.name), build_vocabulary(first, min_count=2))
    write_vocabulary(paths.vocabulary("both"), build_vocabulary(first, second, min_count=2))


def write_random_features(paths: Paths, cell: str, captions: CaptionRecords, *, num_views: int = 0) -> None:
    """Write features of `captions` without an encoder: a vector for each colour, plus noise."""
    views = {
        "count": num_views,
        "crop": {"min_area": 0.5, "max_area": 1.0, "max_aspect": 1.0},
        "flip": False,
        "seed": 0,
    }
    described = {
        "dataset": captions.name, "encoder": "weights/drawn", "image_size": 32, "resize_size": 32, "grid_size": 2,
        "batch_size": 1, "num_workers": 0, "views": views if num_views else None,
    }  # fmt: skip
    settings: Features = validate(described, Features, where="tiny_data")
    random = numpy_generator(0, "tiny_data", "features")
    of_colour = random.normal(1.0, 2.0, (len(NAMES), NUM_PLACES, FEATURE_SIZE))
    train = captions.rows("train")
    rows = np.array([*range(len(captions)), *train * num_views])
    assert len(rows) == num_rows_with_views(captions, settings)
    colours = np.array([record.image_id for record in captions.records])[rows] % 6
    grid = (of_colour[colours] + random.normal(0.0, 0.5, (len(rows), NUM_PLACES, FEATURE_SIZE))).astype(np.float16)
    folder = paths.scratch / cell
    arrays = {"pooled": folder / "pooled.npy", "grid": folder / "grid.npy"}
    write_array(arrays["pooled"], grid.mean(axis=1))
    write_array(arrays["grid"], grid)
    origin = Origin("drawn", SourceNote("drawn", ()), None, "", None, "drawn")
    write_features(paths.features(cell), arrays, captions, settings, origin, {"mean": [0.0] * 3, "std": [1.0] * 3})


def write_finetuned_encoder(paths: Paths, cell: str, made_of: str, captions: CaptionRecords) -> None:
    """Write a fine-tuned encoder whose weights are unchanged: those of the network or the classifier `made_of`."""
    path = paths.finetuned_encoder(cell) / "encoder.pt"
    path.parent.mkdir(parents=True)
    if paths.weights(made_of).exists():
        before, architecture, network = read_source(paths.weights(made_of)), made_of, made_of
        trainable_network(made_of, paths.weights(made_of) / "weights.pth", grid_size=None).save(path)
    else:
        checkpoint = load_checkpoint(paths.classifier(made_of), kind="classifier")
        before, architecture, network = SourceNote(made_of, ()), str(checkpoint.architecture["name"]), CLASSIFIER
        trainable_classifier(checkpoint, made_of, grid_size=None).save(path)
    write_finetuned_origin(path, cell, before, captions, architecture=architecture, network=network, captioner="first")


def _image_split(split: str, count: int, num_of_last: int) -> ImageSplit:
    random = numpy_generator(0, "tiny_data", split)
    labels = np.minimum(np.arange(count) % (NUM_CLASSES - 1 + num_of_last), NUM_CLASSES - 1)
    pixels = np.stack([_disc(int(label), IMAGE_SIZE, IMAGE_SIZE, random) for label in labels])
    return ImageSplit(pixels, labels, tuple(f"{split}{number}" for number in range(count)))


def _disc(label: int, width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """Draw a disc on noise, uint8 (height, width, 3).

    All values are odd. Augmentations with thresholds at powers of two then give results that do not depend on rounding.
    """
    pixels = random.integers(20, 120, (height, width, 3)) + 60 * (random.random((1, 1, 3)) - 0.5)
    down, across = np.mgrid[:height, :width]
    centre, radius = random.uniform(0.35, 0.65, 2), random.uniform(0.2, 0.35) * min(width, height)
    inside = np.hypot(down - centre[0] * height, across - centre[1] * width) < radius
    pixels[inside] = np.array(COLOURS[label]) + random.integers(-20, 20, (int(inside.sum()), 3))
    return pixels.clip(0, 254).astype(np.uint8) | np.uint8(1)


def _with_statistics(network: torch.nn.Module, image_size: int) -> torch.nn.Module:
    """Return `network` in evaluation mode, with batch-norm statistics of random images, as after training.

    With the initial statistics, the output would hardly depend on the image.
    """
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    images = torch.randn(16, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def _source_file(path: Path) -> SourceFile:
    return SourceFile(
        path.name, f"generated:{path.stem}", file_digest(path), path.stat().st_size, "", is_substitute=True
    )
