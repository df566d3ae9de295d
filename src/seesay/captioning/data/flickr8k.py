"""How Flickr8k is laid out: `Flickr8k.token.txt`, three lists of file names, and a folder of images.

Hodosh, Young and Hockenmaier (2013). Each line of the token file is `<file name>#<number>\\t<caption>`.
"""

from __future__ import annotations

import re
from collections import defaultdict

from seesay.captioning.data.raw_records import FoundCaptions, FoundImage, RawFiles
from seesay.core.errors import InputError

TOKEN_FILE = "Flickr8k.token.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_LINE = re.compile(r"(?P<name>[^\t#]+)#\d+\t(?P<caption>[^\t]*)")


def find_flickr8k_captions(files: RawFiles) -> FoundCaptions:
    """Every image of the official lists. Image ids count the images in alphabetical order, from 1."""
    captions, malformed = _captions(files.read_text(TOKEN_FILE))
    splits = _splits(files)
    images: list[FoundImage] = []
    missing: list[str] = []
    without_captions: list[str] = []
    for name in sorted(splits):
        found = files.find(name)
        if found is None:
            missing.append(name)
        elif name not in captions:
            without_captions.append(name)
        else:
            images.append(FoundImage(len(images) + 1, found[1], found[0], splits[name], tuple(captions[name])))
    in_no_split = tuple(sorted(captions.keys() - splits.keys()))
    return FoundCaptions(
        tuple(images),
        True,
        tuple(missing),
        tuple(without_captions),
        in_no_split,
        tuple(malformed),
        tuple((0, name) for name in (*missing, *without_captions)),
    )


def _captions(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Captions by file name, and the lines of another form. Only "\\n" ends a line: captions may hold U+2028, "\\r"."""
    captions: dict[str, list[str]] = defaultdict(list)
    malformed: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            malformed.append(f"{TOKEN_FILE} line {number}: {line[:60]!r}")
        else:
            captions[found["name"]].append(found["caption"])
    return captions, malformed


def _splits(files: RawFiles) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split, list_file in SPLIT_FILES.items():
        names = [line.strip() for line in files.read_text(list_file).split("\n") if line.strip()]
        if not names:
            raise InputError(f"{files.folder}: {list_file}: names no image")
        for name in names:
            if splits.setdefault(name, split) != split:
                raise InputError(f"{files.folder}: {list_file}: {name} is in the {splits[name]} list as well")
    return splits
