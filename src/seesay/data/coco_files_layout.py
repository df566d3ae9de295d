"""Where captions and images of a person's own lie in a raw folder: named by split in `coco_files.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from seesay.errors import InputError
from seesay.files import read_json, write_json

LAYOUT_FILE = "coco_files.json"


@dataclass(frozen=True)
class SplitFiles:
    """The annotation file and the image archive of one split, as named in the raw folder; splits may share images."""

    annotations: str
    images: str


def annotations_name(split: str) -> str:
    return f"captions_{split}.json"


def images_name(split: str) -> str:
    return f"images_{split}.zip"


def write_layout(folder: Path, splits: Mapping[str, SplitFiles]) -> None:
    write_json(folder / LAYOUT_FILE, {split: asdict(files) for split, files in splits.items()})


def read_layout(folder: Path) -> dict[str, SplitFiles]:
    """The files by split, train first; raises `InputError` where the file is damaged."""
    path = folder / LAYOUT_FILE
    content = read_json(path)
    try:
        layout = {split: SplitFiles(**content[split]) for split in ("train", "val", "test") if split in content}
        is_whole = "train" in layout and len(layout) == len(content)
    except TypeError:
        is_whole = False
    if not is_whole:
        raise InputError(f"{path}: expected annotations and images of train, val and test; fetch the source again")
    return layout
