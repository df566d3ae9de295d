"""How COCO 2017's captions are laid out: `captions_train2017.json`, `captions_val2017.json` and the images' folders.

The official val split has the role of test; val is cut from train by `prepare_captions`. Our generated scenes come in
the same layout. Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from seesay.captioning.data.raw_records import FoundCaptions, FoundImage, RawFiles
from seesay.core.errors import InputError
import zipfile
from seesay.sources.local import LAYOUT_FILE, read_layout


ROLES = {"train2017": "train", "val2017": "test"}
SUBSET_FILE = "subset.json"
"""Where images were fetched one by one: which ones, `{"images": {"train2017": [file name, ...], ...}, ...}`."""


def annotation_file(folder_name: str) -> str:
    return f"captions_{folder_name}.json"


@dataclass(frozen=True)
class Annotations:
    """One annotation file: file names and captions by image id, and what was said of images that are not listed."""

    file_names: Mapping[int, str]
    captions: Mapping[int, Sequence[str]]
    unlisted: tuple[str, ...]


def find_coco_captions(files: RawFiles) -> FoundCaptions:
    """Every annotated image; an annotation of an image that is not listed counts as a missing image."""
    images: list[FoundImage] = []
    missing: list[str] = []
    without_captions: list[str] = []
    set_aside: list[tuple[int, str]] = []
    subset = _subset(files)
    for folder_name, role in ROLES.items():
        name = annotation_file(folder_name)
        annotations = parse_annotations(files.read_text(name), name, files.folder)
        missing += annotations.unlisted
        for image_id, file_name in sorted(annotations.file_names.items()):
            member = f"{folder_name}/{file_name}"
            found = files.find(member)
            if subset is None or member in subset:
                if image_id not in annotations.captions:
                    without_captions.append(member)
                elif found is None:
                    missing.append(member)
                else:
                    captions = tuple(annotations.captions[image_id])
                    images.append(FoundImage(image_id, found[1], found[0], role, captions))
                    continue
            set_aside.append((image_id, file_name))
    require_unique(images)
    return FoundCaptions(
        tuple(images), False, tuple(sorted(missing)), tuple(without_captions), set_aside=tuple(set_aside)
    )


def parse_annotations(text: str, name: str, folder: Path) -> Annotations:
    """The annotation file `name` of `folder`. One that says the same twice, under one id, has said it once.

    Raises `InputError` naming file and entry for another format, and for an image id with two file names.
    """
    content = _json(text, name, folder)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise InputError(f"{folder}: {name}: expected an object with the lists images and annotations")
    file_names: dict[int, str] = {}
    for image in content["images"]:
        image_id, file_name = _field(image, "id", int, name), _field(image, "file_name", str, name)
        if file_names.setdefault(image_id, file_name) != file_name:
            raise InputError(f"{folder}: {name}: image id {image_id} is both {file_names[image_id]} and {file_name}")
    captions: dict[int, list[str]] = defaultdict(list)
    said: set[tuple[str, int, str]] = set()
    for annotation in content["annotations"]:
        image_id, caption = _field(annotation, "image_id", int, name), _field(annotation, "caption", str, name)
        if "id" in annotation:
            whole = (str(annotation["id"]), image_id, caption)
            if whole in said:
                continue
            said.add(whole)
        captions[image_id].append(caption)
    unlisted = (f"{name}: image_id {image_id} is not among its images" for image_id in captions.keys() - file_names)
    return Annotations(file_names, captions, tuple(unlisted))


def require_unique(images: Iterable[FoundImage]) -> None:
    """Raises `InputError` naming the first image id that two images have."""
    seen: dict[int, str] = {}
    for image in images:
        if image.image_id in seen:
            raise InputError(f"image id {image.image_id} is both {seen[image.image_id]} and {image.file_name}")
        seen[image.image_id] = image.file_name


def _subset(files: RawFiles) -> set[str] | None:
    if files.find(SUBSET_FILE) is None:
        return None
    content = _json(files.read_text(SUBSET_FILE), SUBSET_FILE, files.folder)
    chosen = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(chosen, Mapping) or not all(isinstance(names, list) for names in chosen.values()):
        raise InputError(f"{files.folder / SUBSET_FILE}: images: expected lists of file names; fetch the source again")
    return {f"{folder_name}/{name}" for folder_name, names in chosen.items() for name in names}


def _json(text: str, name: str, folder: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{folder}: {name}: not valid JSON, line {error.lineno}: {error.msg}") from None


def _field(entry: Any, key: str, kind: type, name: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if type(value) is not kind:
        raise InputError(f"{name}: {key}: got {value!r}: expected {kind.__name__} in {str(entry)[:80]}")
    return value


def find_coco_files_captions(files: RawFiles) -> FoundCaptions:
    """Every annotated image of every split; an annotation of an image that is not listed counts as a missing image."""
    images: list[FoundImage] = []
    missing: list[str] = []
    without_captions: list[str] = []
    set_aside: list[tuple[int, str]] = []
    layout = read_layout(files.folder)
    for split, names in layout.items():
        annotations = parse_annotations(files.read_text(names.annotations), names.annotations, files.folder)
        missing += annotations.unlisted
        members = _Members(files.folder / names.images)
        for image_id, file_name in sorted(annotations.file_names.items()):
            member = members.find(file_name)
            if image_id not in annotations.captions:
                without_captions.append(f"{split}: {file_name}")
            elif member is None:
                missing.append(f"{names.images}: {file_name}")
            else:
                images.append(FoundImage(image_id, member, names.images, split, tuple(annotations.captions[image_id])))
                continue
            set_aside.append((image_id, file_name))
    try:
        require_unique(images)
    except InputError as error:
        raise InputError(f"{files.folder / LAYOUT_FILE}: {error}: expected ids that the splits do not share") from None
    return FoundCaptions(
        tuple(images), "val" in layout, tuple(sorted(missing)), tuple(without_captions), set_aside=tuple(set_aside)
    )


class _Members:
    """The members of an archive, found by the end of their path: an archive often has a folder around its images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file; fetch the source again")
        with zipfile.ZipFile(path) as archive:  # listed before: it opens
            names = [name for name in archive.namelist() if not name.endswith("/")]
        self.names = {name for name in names if not name.startswith("__MACOSX/")}
        self.by_last_part: dict[str, list[str]] = {}
        for name in sorted(self.names):
            self.by_last_part.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def find(self, file_name: str) -> str | None:
        """The member of this path, or the one that ends with it; raises `InputError` where two do."""
        if file_name in self.names:
            return file_name
        candidates = self.by_last_part.get(file_name.rsplit("/", 1)[-1], [])
        found = [name for name in candidates if name.endswith(f"/{file_name}")]
        if len(found) > 1:
            raise InputError(f"{self.path}: {file_name} may be {found[0]} or {found[1]}: expected one of this name")
        return found[0] if found else None
