"""Preparation of a caption source: checks on every image, the splits, and the data report."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seesay.arrays import Undecodable, decode_rgb
from seesay.captioning.data.coco import annotation_file, read_coco_files_records, read_coco_records
from seesay.captioning.data.flickr8k import KAGGLE_FILE, TOKEN_FILE, read_flickr8k_records
from seesay.captioning.data.karpathy import apply_karpathy_split, read_karpathy_split
from seesay.captioning.data.records import SPLITS, CaptionRecord, CaptionRecords, RawRecord, RawRecords, collect_records
from seesay.captioning.data.report import LeftOut, Preparation, report_captions
from seesay.captioning.data.tokenizer import tokenize
from seesay.core.errors import InputError
from seesay.params.datasets import CaptionDataset
from seesay.seeding import numpy_generator
from seesay.sources.local import LAYOUT_FILE
from seesay.sources.members import MemberReader, RawFiles, list_raw_files
from seesay.sources.provenance import SourceNote, read_source


@dataclass(frozen=True)
class _DecodedImage:
    """An image after decoding. `pixel_digest` is the sha256 of its RGB pixels, `error` the reason if it has none."""

    image: RawRecord
    mode: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    pixel_digest: str = ""
    error: str = ""


def prepare_captions(
    settings: CaptionDataset, raw_folder: Path, *, name: str, root: Path = Path()
) -> tuple[CaptionRecords, dict[str, Any]]:
    """Return the records of one caption source, and the data report.

    test is the official split of this role and never changes. val is the official one, or a `val_fraction` of the
    training images, shuffled with `split_seed`; whole images are split, never single captions. With `karpathy_split`
    all three come from that file, whose path may be relative to the workspace `root`.

    Left out are captions without any token, images without a file, a caption or readable pixels, and copies across
    splits (`seesay.captioning.data.report.RULE`). Raises `InputError` naming the archive and its members for a damaged
    file, and where more is left out than `settings.limits` allow.
    """
    key = f"caption_datasets.{name}"
    source = read_source(raw_folder)
    files = list_raw_files(raw_folder)
    raw = _read_raw_records(files)
    karpathy = None
    if settings.karpathy_split is not None:
        karpathy = read_karpathy_split(settings.karpathy_split, key=f"{key}.karpathy_split", root=root)
        raw = apply_karpathy_split(raw, karpathy)
        source = SourceNote(source.name, (*source.files, karpathy.file))
    if raw.has_val != (settings.val_fraction is None):
        expected = "none: this source has its own val split" if raw.has_val else "a number: this source has no val"
        raise InputError(f"{key}.val_fraction: got {settings.val_fraction}: expected {expected}")
    limits = settings.limits
    _require_at_most(limits.max_missing_images, raw.missing_images, "missing_images", key=key, folder=raw_folder)
    images, empty = _drop_empty_captions(raw.images)
    dropped = (*empty, *raw.malformed_captions)
    _require_at_most(limits.max_empty_captions, dropped, "empty_captions", key=key, folder=raw_folder)
    without_captions = [*raw.without_captions, *(image.file_name for image in images if not image.captions)]
    decoded = _decode_all([image for image in images if image.captions], files)
    undecodable = [f"{item.image.file_name} ({item.error})" for item in decoded if item.error]
    _require_at_most(limits.max_undecodable, undecodable, "undecodable", key=key, folder=raw_folder)
    with_val = _assign_val([item for item in decoded if not item.error], settings)
    remaining, left_out = _drop_leaks(with_val)
    records = collect_records(name, [_record(item) for item in remaining], source)
    for split in SPLITS:
        if not records.of(split):
            raise InputError(
                f"{raw_folder}: no image is left for the {split} split; {len(records)} in all. Left out: "
                f"{len(raw.missing_images)} without a file, {len(without_captions)} without a caption, "
                f"{len(undecodable)} undecodable, {len(left_out)} as copies across splits, {len(raw.in_no_split)} that "
                f"no split names. {_ADVICE if files.find(KAGGLE_FILE) else ''}".strip()
            )
    preparation = Preparation(
        missing_images=raw.missing_images,
        undecodable_images=undecodable,
        images_without_captions=without_captions,
        images_in_no_split=raw.in_no_split,
        empty_captions=empty,
        malformed_captions=raw.malformed_captions,
        left_out=left_out,
        copies=_find_copies(remaining),
        modes=[item.mode for item in remaining],
    )
    report = report_captions(records, preparation, settings)
    if karpathy is not None:
        report["karpathy_split"] = karpathy.report()
    return records, report


_ADVICE = (
    f"{KAGGLE_FILE} comes without splits: put the lists of Flickr8k_text.zip beside it, or name a karpathy_split"
)


def _read_raw_records(files: RawFiles) -> RawRecords:
    """Read the raw records in whichever layout the folder has."""
    if files.find(LAYOUT_FILE):
        return read_coco_files_records(files)
    if files.find(TOKEN_FILE) or files.find(KAGGLE_FILE):
        return read_flickr8k_records(files)
    if files.find(annotation_file("train2017")):
        return read_coco_records(files)
    raise InputError(
        f"{files.folder}: neither {TOKEN_FILE} nor {KAGGLE_FILE} (Flickr8k) nor {annotation_file('train2017')} (COCO) "
        f"is there or in {files.describe_archives()}"
    )


def _require_at_most(limit: int, dropped: Sequence[str], kind: str, *, key: str, folder: Path) -> None:
    if len(dropped) > limit:
        listed = "".join(f"\n{folder}: {item}" for item in dropped[:10])
        more = f"\n{folder}: ... and {len(dropped) - 10} more" if len(dropped) > 10 else ""
        description = {
            "missing_images": "images with captions but without a file",
            "empty_captions": "empty or malformed captions",
            "undecodable": "undecodable images",
        }[kind]
        raise InputError(
            f"{folder}: {len(dropped)} {description}; {key}.limits.max_{kind} allows {limit}{listed}{more}"
        )


def _drop_empty_captions(images: Sequence[RawRecord]) -> tuple[list[RawRecord], list[str]]:
    """Return the images with the captions that have at least one token, and a line for each other caption."""
    cleaned, empty = [], []
    for image in images:
        captions = []
        for number, caption in enumerate(image.captions):
            if tokenize(caption):
                captions.append(caption.strip())
            else:
                empty.append(f"{image.file_name}: caption {number}: {caption!r}")
        cleaned.append(replace(image, captions=tuple(captions)))
    return cleaned, empty


def _decode_all(images: Sequence[RawRecord], files: RawFiles) -> list[_DecodedImage]:
    """Decode every image once; return them in the order given."""
    reader = MemberReader(files.folder)

    def decode(image: RawRecord) -> _DecodedImage:
        return _decode(image, reader.read(image.archive, image.file_name))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL and hashlib release the interpreter's lock
        return list(pool.map(decode, images))


def _decode(image: RawRecord, content: bytes) -> _DecodedImage:
    try:
        rgb, mode = decode_rgb(content)
    except Undecodable as error:
        return _DecodedImage(image, error=str(error))
    pixel_digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()
    return _DecodedImage(image, mode, rgb.width, rgb.height, hashlib.sha256(content).hexdigest(), pixel_digest)


def _assign_val(decoded: Sequence[_DecodedImage], settings: CaptionDataset) -> list[_DecodedImage]:
    """Return the images with their final split: with `val_fraction`, a random share of train becomes val."""
    if settings.val_fraction is None:
        return list(decoded)
    assert settings.split_seed is not None, "checked with the settings"
    candidates = sorted(item.image.image_id for item in decoded if item.image.split == "train")
    count = max(1, round(settings.val_fraction * len(candidates)))
    order = numpy_generator(settings.split_seed, "captions", "val").permutation(len(candidates))
    val = {candidates[position] for position in order[:count]}
    return [
        replace(item, image=replace(item.image, split="val"))
        if item.image.split == "train" and item.image.image_id in val
        else item
        for item in decoded
    ]


def _drop_leaks(items: Sequence[_DecodedImage]) -> tuple[list[_DecodedImage], list[LeftOut]]:
    """Return the images whose picture is in no later split (train < val < test), and the others."""
    last_split: dict[str, str] = {}
    for item in items:
        split = item.image.split
        last_split[item.pixel_digest] = max(split, last_split.get(item.pixel_digest, split), key=SPLITS.index)
    remaining, left_out = [], []
    for item in items:
        if item.image.split == last_split[item.pixel_digest]:
            remaining.append(item)
            continue
        same = [
            f"{other.image.split}: {other.image.file_name}"
            for other in items
            if other.pixel_digest == item.pixel_digest and other.image.split != item.image.split
        ]
        left_out.append(LeftOut(item.image.file_name, item.image.split, tuple(same)))
    return remaining, left_out


def _find_copies(items: Sequence[_DecodedImage]) -> dict[str, list[list[str]]]:
    """Return by split the groups of images that show the same picture."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        groups[item.image.split, item.pixel_digest].append(item.image.file_name)
    return {
        split: [names for (of_split, _), names in groups.items() if of_split == split and len(names) > 1]
        for split in SPLITS
    }


def _record(item: _DecodedImage) -> CaptionRecord:
    image = item.image
    return CaptionRecord(
        image.image_id,
        image.file_name,
        image.archive,
        image.split,
        image.captions,
        item.width,
        item.height,
        item.sha256,
    )
