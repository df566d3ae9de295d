"""How a raw caption source becomes records split by image, and what had to be left out on the way."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from seesay.captioning.data.records import SPLITS, CaptionRecord, CaptionRecords, collect_records
from seesay.captioning.data.report import LeftOut, Preparation, report_captions
from seesay.captioning.data.coco import annotation_file, find_coco_captions
from seesay.captioning.data.coco import find_coco_files_captions
from seesay.sources.local import LAYOUT_FILE
from seesay.captioning.data.flickr8k import TOKEN_FILE, find_flickr8k_captions
from seesay.captioning.data.raw_records import FoundCaptions, FoundImage, RawFiles, list_raw_files
from seesay.captioning.data.karpathy import read_karpathy_split, split_by
from seesay.sources.provenance import SourceNote, read_source
from seesay.captioning.data.tokenizer import tokenize
from seesay.core.errors import InputError
from seesay.params.datasets import CaptionDataset
from seesay.seeding import numpy_generator


@dataclass(frozen=True)
class _Checked:
    """An image after its one decoding: `content` is the sha256 of its RGB pixels; `error` why it has none."""

    image: FoundImage
    mode: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    content: str = ""
    error: str = ""


def prepare_captions(
    settings: CaptionDataset, raw_folder: Path, *, name: str, root: Path = Path()
) -> tuple[CaptionRecords, dict[str, Any]]:
    """The records of one caption source, and the data report.

    test is the official split that has this role and is never changed. val is the official one, or `val_fraction` of
    the training images by a shuffle seeded with `split_seed`: images are dealt out, never single captions. All three
    are what `karpathy_split` says where it is set; its path may be relative to `root`, the workspace's. Left out
    are captions without any token, images without a file, a caption or readable pixels, and copies across splits
    (`seesay.captioning.data.report.RULE`).

    Raises `InputError` naming the archive and the members where a file is damaged or more has to be left out than
    `settings.limits` allow.
    """
    key = f"caption_datasets.{name}"
    source = read_source(raw_folder)
    files = list_raw_files(raw_folder)
    found = _find(files)
    karpathy = None
    if settings.karpathy_split is not None:
        karpathy = read_karpathy_split(settings.karpathy_split, key=f"{key}.karpathy_split", root=root)
        found = split_by(found, karpathy)
        source = SourceNote(source.name, (*source.files, karpathy.file))
    if found.has_val != (settings.val_fraction is None):
        expected = (
            "none: this source has a val split of its own" if found.has_val else "a number: this source has no val"
        )
        raise InputError(f"{key}.val_fraction: got {settings.val_fraction}: expected {expected}")
    limits = settings.limits
    _require_few(found.missing_images, limits.max_missing_images, "missing_images", key=key, folder=raw_folder)
    images, empty = _without_empty_captions(found.images)
    dropped = (*empty, *found.malformed_captions)
    _require_few(dropped, limits.max_empty_captions, "empty_captions", key=key, folder=raw_folder)
    without_captions = [*found.without_captions, *(image.file_name for image in images if not image.captions)]
    checked = _check_all([image for image in images if image.captions], files)
    undecodable = [f"{item.image.file_name} ({item.error})" for item in checked if item.error]
    _require_few(undecodable, limits.max_undecodable, "undecodable", key=key, folder=raw_folder)
    dealt = _deal([item for item in checked if not item.error], settings)
    kept, left_out = _without_leaks(dealt)
    records = collect_records(name, [_record(item) for item in kept], source)
    for split in SPLITS:
        if not records.of(split):
            raise InputError(f"{raw_folder}: no image is left for the {split} split; {len(records)} in all")
    preparation = Preparation(
        missing_images=found.missing_images,
        undecodable_images=undecodable,
        images_without_captions=without_captions,
        images_in_no_split=found.in_no_split,
        empty_captions=empty,
        malformed_captions=found.malformed_captions,
        left_out=left_out,
        copies=_copies(kept),
        modes=[item.mode for item in kept],
    )
    report = report_captions(records, preparation, settings)
    if karpathy is not None:
        report["karpathy_split"] = karpathy.report()
    return records, report


def _find(files: RawFiles) -> FoundCaptions:
    if files.find(LAYOUT_FILE):
        return find_coco_files_captions(files)
    if files.find(TOKEN_FILE):
        return find_flickr8k_captions(files)
    if files.find(annotation_file("train2017")):
        return find_coco_captions(files)
    raise InputError(
        f"{files.folder}: neither {TOKEN_FILE} (Flickr8k) nor {annotation_file('train2017')} (COCO) is in its archives"
    )


def _require_few(found: Sequence[str], limit: int, what: str, *, key: str, folder: Path) -> None:
    if len(found) > limit:
        listed = "".join(f"\n{folder}: {item}" for item in found[:10])
        more = f"\n{folder}: ... and {len(found) - 10} more" if len(found) > 10 else ""
        named = {
            "missing_images": "images with captions but without a file",
            "empty_captions": "empty or malformed captions",
            "undecodable": "undecodable images",
        }[what]
        raise InputError(f"{folder}: {len(found)} {named}; {key}.limits.max_{what} allows {limit}{listed}{more}")


def _without_empty_captions(images: Sequence[FoundImage]) -> tuple[list[FoundImage], list[str]]:
    """The images with the captions that have at least one token, and the names of the others."""
    cleaned, empty = [], []
    for image in images:
        kept = []
        for number, caption in enumerate(image.captions):
            if tokenize(caption):
                kept.append(caption.strip())
            else:
                empty.append(f"{image.file_name}: caption {number}: {caption!r}")
        cleaned.append(replace(image, captions=tuple(kept)))
    return cleaned, empty


def _check_all(images: Sequence[FoundImage], files: RawFiles) -> list[_Checked]:
    """Every image decoded once, in the order given."""
    local = threading.local()

    def check(image: FoundImage) -> _Checked:
        return _check(image, _read(image, files.folder, local))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL and hashlib work outside the interpreter's lock
        return list(pool.map(check, images))


def _read(image: FoundImage, folder: Path, local: threading.local) -> bytes:
    if not image.archive:
        return (folder / image.file_name).read_bytes()
    handles: dict[str, zipfile.ZipFile] = local.__dict__.setdefault("handles", {})
    try:
        if image.archive not in handles:
            handles[image.archive] = zipfile.ZipFile(folder / image.archive)
        return handles[image.archive].read(image.file_name)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        where = f"{folder / image.archive}: {image.file_name}"
        raise InputError(f"{where}: damaged ({error}); fetch the source again") from None


def _check(image: FoundImage, content: bytes) -> _Checked:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            mode, (width, height) = opened.mode, opened.size
            pixels = opened.convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # PIL adds a memory address after " <"
        return _Checked(image, error=" ".join(str(error).split(" <")[0].split()) or type(error).__name__)
    picture = hashlib.sha256(f"{width}x{height}:".encode() + pixels).hexdigest()
    return _Checked(image, mode, width, height, hashlib.sha256(content).hexdigest(), picture)


def _deal(checked: Sequence[_Checked], settings: CaptionDataset) -> list[_Checked]:
    """The images with their final split: a seeded share of train becomes val where `val_fraction` says so."""
    if settings.val_fraction is None:
        return list(checked)
    candidates = sorted(item.image.image_id for item in checked if item.image.split == "train")
    assert settings.split_seed is not None, "settings have seen to this"
    count = max(1, round(settings.val_fraction * len(candidates)))
    order = numpy_generator(settings.split_seed, "captions", "val").permutation(len(candidates))
    val = {candidates[position] for position in order[:count]}
    return [
        replace(item, image=replace(item.image, split="val"))
        if item.image.split == "train" and item.image.image_id in val
        else item
        for item in checked
    ]


def _without_leaks(items: Sequence[_Checked]) -> tuple[list[_Checked], list[LeftOut]]:
    """The images whose picture is in no later split (train < val < test), and the others."""
    last: dict[str, str] = {}
    for item in items:
        split = item.image.split
        last[item.content] = max(split, last.get(item.content, split), key=SPLITS.index)
    kept, left_out = [], []
    for item in items:
        if item.image.split == last[item.content]:
            kept.append(item)
            continue
        same = [
            f"{other.image.split}: {other.image.file_name}"
            for other in items
            if other.content == item.content and other.image.split != item.image.split
        ]
        left_out.append(LeftOut(item.image.file_name, item.image.split, tuple(same)))
    return kept, left_out


def _copies(items: Sequence[_Checked]) -> dict[str, list[list[str]]]:
    """By split, the groups of images that show the same picture."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        groups[item.image.split, item.content].append(item.image.file_name)
    return {
        split: [names for (of_split, _), names in groups.items() if of_split == split and len(names) > 1]
        for split in SPLITS
    }


def _record(item: _Checked) -> CaptionRecord:
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
