"""Reading of Flickr8k: `Flickr8k.token.txt`, three lists of file names, and a folder of images.

Hodosh, Young and Hockenmaier (2013). Each line of the token file is `<file name>#<number>\\t<caption>`.
"""

from __future__ import annotations

import re
from collections import defaultdict

from seesay.captioning.data.raw_records import RawFiles, RawRecord, RawRecords
from seesay.core.errors import InputError

TOKEN_FILE = "Flickr8k.token.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_LINE = re.compile(r"(?P<name>[^\t#]+)#\d+\t(?P<caption>[^\t]*)")


def read_flickr8k_records(files: RawFiles) -> RawRecords:
    """Return every image of the official lists. Image ids count the images in alphabetical order, from 1."""
    captions, malformed = _parse_captions(files.read_text(TOKEN_FILE))
    splits = _read_splits(files)
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
        True,
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
            captions[match["name"]].append(match["caption"])
    return captions, malformed


def _read_splits(files: RawFiles) -> dict[str, str]:
    """Return the split of each image by file name; raise `InputError` for an image in two lists."""
    splits: dict[str, str] = {}
    for split, list_file in SPLIT_FILES.items():
        names = [line.strip() for line in files.read_text(list_file).split("\n") if line.strip()]
        if not names:
            raise InputError(f"{files.folder}: {list_file}: names no image")
        for name in names:
            if splits.setdefault(name, split) != split:
                raise InputError(f"{files.folder}: {list_file}: {name} is in the {splits[name]} list as well")
    return splits
