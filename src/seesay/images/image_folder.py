"""Index of user-supplied images, in class folders or listed by a CSV, and the splits cut from them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import commonpath, dirname

import numpy as np

from seesay.core.errors import InputError
from seesay.core.files import read_text
from seesay.images.decode import DecodedImage, Example, ListedImage
from seesay.images.packed import SPLITS
from seesay.params.datasets import SplitShares
from seesay.seeding import derive_seed
from seesay.sources.members import IMAGE_SUFFIXES, ZipMembers, is_image_name, normal_name

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""The names of folders, and values of the column `split`, that stand for splits; upper case is the same."""


@dataclass(frozen=True)
class ImageFolder:
    """The index of an archive of user-supplied images, `path`.

    Member names are relative to `top`, the folders that all images lie in. `images` are sorted by split, label and
    name. `unlabelled` are the images without a label, which are not used.
    """

    path: Path
    top: str
    labels: tuple[str, ...]
    images: tuple[ListedImage, ...]
    unlabelled: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source gives; train is always among them."""
        given = {image.split for image in self.images}
        return tuple(split for split in SPLITS if split in given)

    @property
    def groups(self) -> dict[str, str]:
        """The group of each image that has one, by name."""
        return {image.member: image.group for image in self.images if image.group}

    def require_splits(self, shares: SplitShares | None, *, key: str) -> None:
        """Raise `InputError` unless either the source gives val and test or `shares` cuts them from train."""
        for split in ("val", "test"):
            share = None if shares is None else getattr(shares, split)
            where = f"{key}.splits.{split}"
            if split in self.splits and share is not None:
                raise InputError(f"{where}: got {share}: expected none, since {self.path} has a {split} split")
            if split not in self.splits and share is None:
                but = f" ({len(self.unlabelled)} images there have no label)" if self.unlabelled else ""
                raise InputError(f"{where}: missing: expected a share, since {self.path} has no {split} split{but}")


def read_image_folder(archive: ZipMembers, path: Path, *, labels: Path | None) -> ImageFolder:
    """Read the index of an archive of images in class folders, or of images that the CSV at `labels` lists.

    Other files than images are ignored. Raises `InputError` that names `path`, or `labels` and the line, where images
    have no class or split.
    """
    if any(f"/{name}".endswith("/wnids.txt") for name in archive.names):
        raise InputError(f"{path}: has Tiny ImageNet's wnids.txt: expected subset in its entry of image_datasets")
    names = [name for name in archive.names if is_image_name(name)]
    if not names:
        raise InputError(f"{path}: no images in it ({', '.join(IMAGE_SUFFIXES)})")
    shared = commonpath([dirname(name) for name in names])
    top = f"{shared}/" if shared else ""
    names = sorted(name.removeprefix(top) for name in names)
    if labels is None:
        images = _by_folder(names, path)
    else:
        images = _by_table(names, read_text(labels), labels, top=top, path=path)
    classes = tuple(sorted({image.wnid for image in images if image.split == "train"}))
    if len(classes) < 2:
        expected = "class folders" if labels is None else "labels"
        found = f"{len(classes)} ({', '.join(classes) or 'none'}) for train"
        raise InputError(f"{labels or path}: expected at least two {expected}, found {found}")
    for split in ("val", "test"):
        if unknown := {image.wnid for image in images if image.split == split} - set(classes):
            raise InputError(f"{labels or path}: {split} has classes that train lacks: {_some(unknown)}")
    listed = {image.member for image in images}
    return ImageFolder(
        path=path,
        top=top,
        labels=classes,
        images=tuple(sorted(images, key=lambda one: (SPLITS.index(one.split), one.wnid, one.member))),
        unlabelled=tuple(name for name in names if name not in listed),
    )


def _by_folder(names: Iterable[str], path: Path) -> list[ListedImage]:
    """Return the images in class folders, possibly below split folders, which are those that hold folders of images."""
    parts = {name: name.split("/") for name in names}
    nested = {folders[0] for folders in parts.values() if len(folders) > 2}
    split_folders = {folder: SPLIT_NAMES[folder.lower()] for folder in nested if folder.lower() in SPLIT_NAMES}
    if not split_folders:
        return [ListedImage(name, "train", folders[0]) for name, folders in parts.items() if len(folders) > 1]
    outside = {folders[0] for folders in parts.values() if len(folders) > 1 and folders[0].lower() not in SPLIT_NAMES}
    if outside:
        raise InputError(
            f"{path}: has the folders {_some(split_folders)} beside {_some(outside)}: expected class folders, or class "
            "folders below train, val and test alone"
        )
    images = [
        ListedImage(name, split_folders[folders[0]], folders[1])
        for name, folders in parts.items()
        if folders[0] in split_folders and len(folders) > 2
    ]
    classes = {image.wnid for image in images if image.split == "train"}
    without_labels = {
        split  # the images of a test split without labels often lie in one folder of any name
        for split in ("val", "test")
        if not classes & {image.wnid for image in images if image.split == split}
    }
    return [image for image in images if image.split not in without_labels]


def _by_table(names: Sequence[str], table: str, where: Path, *, top: str, path: Path) -> list[ListedImage]:
    """Return the images that a CSV lists; its names are relative to the archive or to the folder of all images."""
    rows = csv.DictReader(io.StringIO(table, newline=""), strict=True)
    known, images, missing = set(names), dict[str, ListedImage](), list[str]()
    splits_of: dict[str, str] = {}
    try:
        columns = [(column or "").strip().lower() for column in rows.fieldnames or ()]
        if not {"file", "label"} <= set(columns):
            raise InputError(f"{where}: expected the columns file and label, got {', '.join(columns)[:200] or 'none'}")
        rows.fieldnames = columns
        for row in rows:
            here = f"{where}: line {rows.line_num}"
            file, label, given, group = ((row.get(key) or "").strip() for key in ("file", "label", "split", "group"))
            split = SPLIT_NAMES.get(given.lower() or "train")
            if not file or not label or split is None:
                wrong = "file" if not file else "label" if not label else "split"
                expected = "train, val or test" if wrong == "split" else "a value"
                raise InputError(f"{here}: {wrong}: got {given if wrong == 'split' else ''!r}: expected {expected}")
            name = normal_name(file).removeprefix(top)
            if name not in known:
                missing.append(file)
            if name in images:
                raise InputError(f"{here}: {file} is listed twice")
            if group and splits_of.setdefault(group, split) != split:
                raise InputError(f"{here}: group {group!r} is in {splits_of[group]} and in {split}: expected one split")
            images[name] = ListedImage(name, split, label, group)
    except csv.Error as error:
        raise InputError(f"{where}: line {rows.line_num}: {error}") from None
    if missing:
        there = f"; it has, for example, {names[0]}" if names else ""
        raise InputError(f"{where}: {len(missing)} images are not in {path}: {_some(missing, 5)}{there}")
    return list(images.values())


def _some(values: Iterable[str], most: int = 10) -> str:
    listed = sorted(values)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def cut_folder(
    usable: Sequence[DecodedImage], folder: ImageFolder, shares: SplitShares | None, *, seed: int
) -> dict[str, list[DecodedImage]]:
    """Return the usable images of each split: those that the source gives, and those that `divide` cuts from train.

    Raises `InputError` that names a class without an image in one of the splits.
    """
    split_of = {image.example.member: image.example.split for image in usable}
    groups = folder.groups
    if shares is not None:
        train = [image.example for image in usable if image.example.split == "train"]
        split_of |= divide(train, groups, shares, seed=seed)
    splits = {split: [image for image in usable if split_of[image.example.member] == split] for split in SPLITS}
    counts = {split: Counter(image.example.wnid for image in images) for split, images in splits.items()}
    for label in folder.labels:
        empty = [split for split in SPLITS if not counts[split][label]]
        if empty:
            total = sum(counts[split][label] for split in SPLITS)
            how = ", each in a group of its own" if groups else ""
            raise InputError(
                f"{folder.path}: class {label!r} has {total} usable images, and none for {' and '.join(empty)}: "
                f"expected at least one for each of {', '.join(SPLITS)}{how}"
            )
    return splits


def divide(images: Sequence[Example], groups: Mapping[str, str], shares: SplitShares, *, seed: int) -> dict[str, str]:
    """Return the split of each image by name: val and test get their `shares` of each class, train the rest.

    Images of one group, by name in `groups`, stay together. The larger groups are placed first, each where most images
    of its classes are missing; groups of equal size come in a random order that depends on `seed` and their names
    only, so further images move few others. Each split gets an image of every class where there are enough groups.
    """
    if not images:
        return {}
    classes = {wnid: index for index, wnid in enumerate(sorted({image.wnid for image in images}))}
    totals = np.bincount([classes[image.wnid] for image in images], minlength=len(classes))
    wanted = {split: share for split, share in (("val", shares.val), ("test", shares.test)) if share is not None}
    missing = np.stack([np.maximum(1, np.rint(share * totals)) for share in wanted.values()])
    missing = np.concatenate([(totals - missing.sum(axis=0))[None], missing])
    splits = ("train", *wanted)

    kin: dict[tuple[str, str], list[Example]] = {}
    for image in images:
        group = groups.get(image.member, "")
        kin.setdefault(("group", group) if group else ("file", image.member), []).append(image)
    order = sorted(kin, key=lambda name: (-len(kin[name]), derive_seed(seed, "split", *name)))
    num_left = Counter(wnid for members in kin.values() for wnid in {image.wnid for image in members})
    is_empty = np.ones((len(splits), len(classes)), dtype=bool)
    found: dict[str, str] = {}
    for name in order:
        here = sorted({image.wnid for image in kin[name]})
        columns = [classes[wnid] for wnid in here]
        counts = np.bincount([classes[image.wnid] for image in kin[name]], minlength=len(classes))
        score = (missing[:, columns] * counts[columns]).sum(axis=1)
        for wnid, column in zip(here, columns, strict=True):
            if num_left[wnid] <= is_empty[:, column].sum():  # the last ones go where the class has none
                score = score + np.where(is_empty[:, column], missing.sum() * len(images), 0.0)
            num_left[wnid] -= 1
        chosen = int(np.argmax(score))
        missing[chosen] -= counts
        is_empty[chosen, columns] = False
        found.update((image.member, splits[chosen]) for image in kin[name])
    return found
