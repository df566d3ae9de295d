"""Preparation of packed train, val and test splits from a raw image source, with a data report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seesay.arrays import new_mapped_array
from seesay.core.errors import InputError
from seesay.images.decode import (
    FOLDER_RULE,
    RULE,
    DecodedImage,
    LeftOut,
    ListedImage,
    decode_all,
    leave_out,
    near_duplicates,
    repeated,
)
from seesay.images.image_folder import cut_folder, read_image_folder
from seesay.images.packed import (
    SPLITS,
    ImageClass,
    ImageSplit,
    PackedImages,
    channel_statistics,
    dataset_digest,
    split_digest,
)
from seesay.images.tiny_imagenet import TinyImageNet, choose_classes, find_archive, read_index
from seesay.params.datasets import ImageDataset
from seesay.seeding import numpy_generator
from seesay.sources.members import LABELS_FILE, ZipMembers
from seesay.sources.provenance import SourceNote, read_source

DECODED_FILE = "decoded.npy"

_ROWS_AT_A_TIME = 1024


def prepare_images(
    settings: ImageDataset, raw_folder: Path, *, name: str, scratch: Path
) -> tuple[PackedImages, dict[str, Any]]:
    """Return the packed splits of an image dataset, and the data report.

    Pixels are memory maps of files in the folder `scratch`, which is made, so that they need not fit in memory; its
    owner removes it. At most twice the bytes of all pixels lie there.

    With `settings.subset`, the test split is the whole official val split, and val and train come from the official
    train split. Each class is shuffled with `split_seed`; the first `num_val_per_class` images go to val, and the next
    `num_train_per_class` to train. Train has fewer where images were left out (`seesay.images.decode.RULE`).

    Without it, the splits are the source's own, and those in `settings.splits` are cut from train by
    `seesay.images.image_folder.cut_folder` (`seesay.images.decode.FOLDER_RULE`).

    Within a split, images are ordered by class, then by file number or name. Raises `InputError` that names the archive
    and the files: for a damaged archive, and for more undecodable or left out images than `settings.limits` allows.
    Raises `InputError` that names the params key: for an unknown subset, for a class with too few images, and for a
    split that is given twice or not at all.
    """
    key = f"image_datasets.{name}"
    note = read_source(raw_folder)
    path = find_archive(raw_folder, note)
    table, folder = note.file(LABELS_FILE), None
    with ZipMembers(path) as archive:
        if settings.subset is None:
            folder = read_image_folder(archive, path, labels=None if table is None else path.with_name(table.name))
            folder.require_splits(settings.splits, key=key)
            top, words, wnids, listed = folder.top, {}, folder.labels, folder.images
        else:
            index = read_index(archive, path)
            top, words = index.top, index.words
            wnids = choose_classes(settings.subset, index.wnids, key=f"{key}.subset", archive=path)
            _require_enough(index, wnids, settings, key=key, path=path)
            listed = tuple(_list_subset(index, wnids))
        shape = (len(listed), settings.image_size, settings.image_size, 3)
        pixels = new_mapped_array(scratch / DECODED_FILE, shape, np.uint8)
        images = decode_all(archive, listed, pixels, top=top)
    decoded, undecodable = [image for image in images if not image.error], [image for image in images if image.error]
    _require_few(
        [f"{image.example.member} ({image.error})" for image in undecodable],
        settings.limits.max_undecodable,
        what="undecodable images",
        key=f"{key}.limits.max_undecodable",
        path=path,
    )
    left_out = leave_out([image.example for image in decoded])
    for wnid in wnids:
        _require_few(
            [f"{item.member} ({item.reason}: {', '.join(item.same_as)})" for item in left_out if item.wnid == wnid],
            settings.limits.max_left_out_per_class,
            what=f"images of {wnid} to leave out",
            key=f"{key}.limits.max_left_out_per_class",
            path=path,
        )
    excluded = {item.member for item in left_out}
    usable = [image for image in decoded if image.example.member not in excluded]
    if folder is None:
        members = _cut_subset(usable, wnids, settings, key=key)
    else:
        members = cut_folder(usable, folder, settings.splits, seed=settings.split_seed or 0)
    _assert_no_leakage(members)
    packed = _pack(members, pixels, _classes(wnids, words), settings, name=name, source=note, scratch=scratch)
    (scratch / DECODED_FILE).unlink()
    report = build_image_report(settings.subset, packed, decoded, left_out, undecodable)
    if folder is not None:
        examples = [image.example for image in decoded]
        report |= {
            "rule": FOLDER_RULE,
            "given_splits": list(folder.splits),
            "num_groups": len(set(folder.groups.values())),
            "unlabelled": list(folder.unlabelled),
            "near_duplicates": near_duplicates(packed),
        }
        report["duplicates"] |= {split: repeated(examples, split) for split in folder.splits}
    return packed, report


def _list_subset(index: TinyImageNet, wnids: Sequence[str]) -> list[ListedImage]:
    """List train by class and number, then test by class and number."""
    train = [ListedImage(member, "train", wnid) for wnid in wnids for member in index.train[wnid]]
    return train + [
        ListedImage(member, "test", wnid) for wnid in wnids for member, labelled in index.val if labelled == wnid
    ]


def _require_enough(index: TinyImageNet, wnids: Sequence[str], settings: ImageDataset, *, key: str, path: Path) -> None:
    wanted = (settings.num_train_per_class or 0) + (settings.num_val_per_class or 0)
    for wnid in wnids:
        found = len(index.train[wnid])
        if found < wanted:
            raise InputError(
                f"{key}: num_train_per_class {settings.num_train_per_class} and num_val_per_class "
                f"{settings.num_val_per_class} need {wanted} images a class; {path} has {found} of {wnid}"
            )


def _require_few(found: Sequence[str], limit: int, *, what: str, key: str, path: Path) -> None:
    if len(found) > limit:
        listed = "\n".join(f"{path}: {item}" for item in found[:20])
        more = f"\n{path}: ... and {len(found) - 20} more" if len(found) > 20 else ""
        raise InputError(f"{path}: {len(found)} {what}; {key} allows {limit}\n{listed}{more}")


def _cut_subset(
    usable: Sequence[DecodedImage], wnids: Sequence[str], settings: ImageDataset, *, key: str
) -> dict[str, list[DecodedImage]]:
    by_class: dict[str, list[DecodedImage]] = {wnid: [] for wnid in wnids}
    splits: dict[str, list[DecodedImage]] = {split: [] for split in SPLITS}
    for image in usable:
        if image.example.split == "test":
            splits["test"].append(image)
        else:
            by_class[image.example.wnid].append(image)
    num_val, num_train, seed = settings.num_val_per_class, settings.num_train_per_class, settings.split_seed
    assert num_val is not None, "settings have seen to these three"
    assert num_train is not None
    assert seed is not None
    for wnid, images in by_class.items():
        if len(images) <= num_val:
            raise InputError(f"{key}.num_val_per_class: got {num_val}: {wnid} has {len(images)} usable images in all")
        order = numpy_generator(seed, "split", wnid).permutation(len(images))
        splits["val"] += [images[position] for position in sorted(order[:num_val])]
        splits["train"] += [images[position] for position in sorted(order[num_val : num_val + num_train])]
    return splits


def _assert_no_leakage(members: dict[str, list[DecodedImage]]) -> None:
    contents = {split: [image.example.content for image in images] for split, images in members.items()}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(contents[first]) & set(contents[second]), f"{first} and {second} share images"
    assert len(set(contents["train"])) == len(contents["train"]), "train holds an image twice"


def _classes(wnids: Sequence[str], words: dict[str, str]) -> tuple[ImageClass, ...]:
    """Return the classes with unique labels: the wnid is added where two classes share a word ("crane")."""
    labels = [words.get(wnid) or wnid for wnid in wnids]
    return tuple(
        ImageClass(wnid, label if labels.count(label) == 1 else f"{label} ({wnid})")
        for wnid, label in zip(wnids, labels, strict=True)
    )


def _pack(
    members: dict[str, list[DecodedImage]],
    pixels: np.ndarray,
    classes: tuple[ImageClass, ...],
    settings: ImageDataset,
    *,
    name: str,
    source: SourceNote,
    scratch: Path,
) -> PackedImages:
    indices = {image_class.wnid: index for index, image_class in enumerate(classes)}
    splits = {
        split: ImageSplit(
            images=_take(pixels, [image.row for image in images], scratch / f"{split}.npy"),
            labels=np.array([indices[image.example.wnid] for image in images], dtype=np.int64),
            ids=tuple(image.example.member for image in images),
        )
        for split, images in members.items()
    }
    mean, std = channel_statistics(splits["train"].images)
    return PackedImages(
        **splits,
        classes=classes,
        image_size=settings.image_size,
        channel_mean=mean,
        channel_std=std,
        name=name,
        digest=dataset_digest(classes, {split: split_digest(part) for split, part in splits.items()}),
        source=source,
    )


def _take(pixels: np.ndarray, rows: Sequence[int], path: Path) -> np.ndarray:
    """Return these rows of `pixels`, in a memory map of the file `path`."""
    taken = new_mapped_array(path, (len(rows), *pixels.shape[1:]), np.uint8)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        chosen = rows[start : start + _ROWS_AT_A_TIME]
        taken[start : start + len(chosen)] = pixels[chosen]
    return taken


def build_image_report(
    subset: str | None,
    packed: PackedImages,
    decoded: Sequence[DecodedImage],
    left_out: Sequence[LeftOut],
    undecodable: Sequence[DecodedImage],
) -> dict[str, Any]:
    """Return the data report as JSON values.

    `decoded` are all decoded images of the subset's classes, including those left out. `duplicates` refers to the
    images before the rule is applied. `leakage` counts images shared by the packed splits, after the rule.
    """
    examples = [image.example for image in decoded]
    contents = {image.example.member: image.example.content for image in decoded}
    split_contents = {name: {contents[member] for member in split.ids} for name, split in packed.splits.items()}
    counts = {name: Counter(split.labels.tolist()) for name, split in packed.splits.items()}
    return {
        "name": packed.name,
        "subset": subset,
        "source": packed.source.to_json(),
        "digest": packed.digest,
        "split_digests": {name: split_digest(split) for name, split in packed.splits.items()},
        "num_images": {name: len(split) for name, split in packed.splits.items()},
        "num_classes": packed.num_classes,
        "classes": [
            asdict(image_class) | {name: counts[name][index] for name in packed.splits}
            for index, image_class in enumerate(packed.classes)
        ],
        "image_size": packed.image_size,
        "sizes": dict(sorted(Counter(image.size for image in decoded).items())),
        "modes": dict(sorted(Counter(image.mode for image in decoded).items())),
        "channel_mean": list(packed.channel_mean),
        "channel_std": list(packed.channel_std),
        "rule": RULE,
        "left_out": [asdict(item) | {"same_as": list(item.same_as)} for item in left_out],
        "num_left_out": dict(sorted(Counter(item.reason for item in left_out).items())),
        "undecodable": [{"member": image.example.member, "reason": image.error} for image in undecodable],
        "duplicates": {
            "train": repeated(examples, "train"),
            "test": repeated(examples, "test"),
            "same_bytes": _num_same_bytes(decoded),
        },
        "leakage": {
            "train_val": len(split_contents["train"] & split_contents["val"]),
            "train_test": len(split_contents["train"] & split_contents["test"]),
            "val_test": len(split_contents["val"] & split_contents["test"]),
        },
    }


def _num_same_bytes(decoded: Sequence[DecodedImage]) -> int:
    """Return the number of files that have the same bytes as another file."""
    counts = Counter(image.file_sha256 for image in decoded)
    return sum(count for count in counts.values() if count > 1)


def summarise_report(report: dict[str, Any]) -> str:
    """Return one line on a data report: images per split, and how many files were left out."""
    counts = ", ".join(f"{split} {count:,}" for split, count in report["num_images"].items())
    left_out = {
        "undecodable": len(report["undecodable"]),
        "duplicates": len(report["left_out"]),
        "unlabelled": len(report.get("unlabelled", [])),
    }
    named = ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count) or "nothing"
    near = sum(report.get("near_duplicates", {}).get("num_pairs", {}).values())
    kept = f"; kept: {near:,} pairs of near-duplicates" if near else ""
    return f"{report['name']}: {counts} images of {report['num_classes']} classes; left out: {named}{kept}"
