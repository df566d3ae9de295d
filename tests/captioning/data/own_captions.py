"""Captions and images as a person keeps them: in COCO's format, somewhere on this machine."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from seesay.params.datasets import CaptionDataset, CaptionLimits, CocoFilesSource, CocoFilesSplit, LocalFile, LocalImages


def picture(number: int) -> bytes:
    """A picture of its own for each number."""
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def checksum(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def write_annotations(path: Path, captions: Mapping[int, Iterable[str]]) -> None:
    listed = [(image_id, text) for image_id, texts in captions.items() for text in texts]
    content = {
        "images": [{"id": image_id, "file_name": f"{image_id}.png"} for image_id in captions],
        "annotations": [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(listed)],
    }
    path.write_text(json.dumps(content))


def write_folder(folder: Path, numbers: Iterable[int]) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


def write_archive(path: Path, numbers: Iterable[int], *, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in numbers:
            archive.writestr(f"{inside}{number}.png", picture(number))
    return path


def split_of(annotations: Path, images: Path, *, images_checksum: str | None = None) -> CocoFilesSplit:
    return CocoFilesSplit(
        annotations=LocalFile(path=str(annotations), checksum=checksum(annotations)),
        images=LocalImages(path=str(images), checksum=images_checksum),
    )


TRAIN, VAL, TEST = (1, 2, 3, 4), (11,), (21, 22)


def own_source(home: Path) -> CocoFilesSource:
    """Four training images in a folder, one val image in an archive, two test images in one with a folder inside."""
    home.mkdir(exist_ok=True)
    images = {
        "train": write_folder(home / "pictures", TRAIN),
        "val": write_archive(home / "v.zip", VAL),
        "test": write_archive(home / "t.zip", TEST, inside="some/where/"),
    }
    splits = {}
    for split, numbers in {"train": TRAIN, "val": VAL, "test": TEST}.items():
        write_annotations(home / f"{split}.json", {number: [f"picture {number}"] for number in numbers})
        splits[split] = split_of(home / f"{split}.json", images[split])
    return CocoFilesSource(kind="coco_files", **splits)


def dataset_settings(
    *, val_fraction: float | None = None, missing: int = 0, karpathy_split: LocalFile | None = None
) -> CaptionDataset:
    limits = CaptionLimits(max_undecodable=0, max_missing_images=missing, max_empty_captions=0)
    return CaptionDataset(val_fraction=val_fraction, split_seed=0, limits=limits, karpathy_split=karpathy_split)
