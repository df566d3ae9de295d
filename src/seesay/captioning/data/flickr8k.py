"""Reading of Flickr8k: `Flickr8k.token.txt` or Kaggle's `captions.txt`, three lists of names, and a folder of images.

Hodosh, Young and Hockenmaier (2013). Each line of the token file is `<file name>#<number>\\t<caption>`.
Each line of Kaggle's file is `<file name>,<caption>` as CSV, below the header `image,caption`. It comes without the
lists: they lie beside it, or `karpathy_split` has the splits.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict

from seesay.captioning.data.records import RawRecord, RawRecords
from seesay.core.errors import InputError, shorten
from seesay.sources.members import RawFiles, normal_name

TOKEN_FILE = "Flickr8k.token.txt"
KAGGLE_FILE = "captions.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_LINE = re.compile(r"(?P<name>[^\t#]+)#\d+\t(?P<caption>[^\t]*)")


def read_flickr8k_records(files: RawFiles) -> RawRecords:
    """Return every image of the official lists. Image ids count the images in alphabetical order, from 1."""
    if files.find(TOKEN_FILE):
        captions, malformed = _parse_captions(files.read_text(TOKEN_FILE))
    else:
        captions, malformed = _parse_kaggle_captions(files)
    has_lists = any(files.find(name) for name in SPLIT_FILES.values()) or bool(files.find(TOKEN_FILE))
    splits = _read_splits(files) if has_lists else dict.fromkeys(captions, "train")
    images: list[RawRecord] = []
    missing: list[str] = []
    without_captions: list[str] = []
    for name in sorted(splits):
        location = files.find(name)
        if location is None:
            missing.append(name)
        elif name not in captions:
            without_captions.append(name)
        else:
            images.append(RawRecord(len(images) + 1, location[1], location[0], splits[name], tuple(captions[name])))
    in_no_split = tuple(sorted(captions.keys() - splits.keys()))
    return RawRecords(
        tuple(images),
        has_lists,
        tuple(missing),
        tuple(without_captions),
        in_no_split,
        tuple(malformed),
        tuple((0, name) for name in (*missing, *without_captions)),
    )


def _parse_captions(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the captions by file name, and the malformed lines.

    Only "\\n" ends a line: captions may hold U+2028 and "\\r".
    """
    captions: dict[str, list[str]] = defaultdict(list)
    malformed: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            malformed.append(f"{TOKEN_FILE} line {number}: {line[:60]!r}")
        else:
            captions[normal_name(match["name"])].append(match["caption"])
    return captions, malformed


def _parse_kaggle_captions(files: RawFiles) -> tuple[dict[str, list[str]], list[str]]:
    """Return the captions of Kaggle's file by file name, and its malformed lines.

    Each line is parsed by itself, so that an open quotation mark swallows no further captions.
    """
    lines = [line.removesuffix("\r") for line in files.read_text(KAGGLE_FILE).split("\n")]
    if [part.strip().lower() for part in lines[0].split(",")] != ["image", "caption"]:
        raise InputError(f"{files.folder}: {KAGGLE_FILE}: got {shorten(lines[0])}: expected the header image,caption")
    captions: dict[str, list[str]] = defaultdict(list)
    malformed: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            name, *parts = next(csv.reader([line], strict=True))
        except csv.Error:
            name, parts = "", []
        if not name or not parts:
            malformed.append(f"{KAGGLE_FILE} line {number}: {line[:60]!r}")
        else:
            captions[normal_name(name.strip())].append(",".join(parts))  # a comma may stand without quotation marks
    return captions, malformed


def _read_splits(files: RawFiles) -> dict[str, str]:
    """Return the split of each image by file name; raise `InputError` for an image in two lists."""
    splits: dict[str, str] = {}
    for split, list_file in SPLIT_FILES.items():
        lines = files.read_text(list_file).split("\n")
        names = [normal_name(line.strip()) for line in lines if line.strip()]
        if not names:
            raise InputError(f"{files.folder}: {list_file}: names no image")
        for name in names:
            if splits.setdefault(name, split) != split:
                raise InputError(f"{files.folder}: {list_file}: {name} is in the {splits[name]} list as well")
    return splits
