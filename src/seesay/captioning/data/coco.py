"""Reading of captions in COCO's format: COCO 2017 itself, and user-supplied files.

COCO 2017 is `captions_train2017.json`, `captions_val2017.json` and a folder of images for each. Its official val split
has the role of test; `prepare_captions` cuts val from train. Our generated scenes come in the same layout. Format:
https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesay.captioning.data.records import RawRecord, RawRecords
from seesay.core.errors import InputError, shorten
from seesay.core.files import parse_json
from seesay.sources.local import LAYOUT_FILE, read_layout
from seesay.sources.members import RawFiles, ZipMembers, normal_name

ROLES = {"train2017": "train", "val2017": "test"}
"""Our split for each of COCO 2017's folders."""

SUBSET_FILE = "subset.json"
"""The images that were fetched one by one, if any: `{"images": {"train2017": [file name, ...], ...}, ...}`."""


@dataclass(frozen=True)
class Annotations:
    """One annotation file: file names and captions by image id, and a line for each captioned image not listed."""

    file_names: Mapping[int, str]
    captions: Mapping[int, Sequence[str]]
    unlisted: tuple[str, ...]


def annotation_file(folder_name: str) -> str:
    return f"captions_{folder_name}.json"


def read_coco_records(files: RawFiles) -> RawRecords:
    """Return every annotated image of COCO 2017.

    A caption of an image that its file does not list counts as a missing image.
    """
    images: list[RawRecord] = []
    missing: list[str] = []
    without_captions: list[str] = []
    set_aside: list[tuple[int, str]] = []
    subset = _read_subset(files)
    for folder_name, role in ROLES.items():
        name = annotation_file(folder_name)
        annotations = parse_annotations(files.read_text(name), name, files.folder)
        missing += annotations.unlisted
        for image_id, file_name in sorted(annotations.file_names.items()):
            member = f"{folder_name}/{file_name}"
            location = files.find(member)
            if subset is None or member in subset:
                if image_id not in annotations.captions:
                    without_captions.append(member)
                elif location is None:
                    missing.append(member)
                else:
                    captions = tuple(annotations.captions[image_id])
                    images.append(RawRecord(image_id, location[1], location[0], role, captions))
                    continue
            set_aside.append((image_id, file_name))
    require_unique(images)
    return RawRecords(tuple(images), False, tuple(sorted(missing)), tuple(without_captions), set_aside=tuple(set_aside))


def read_coco_files_records(files: RawFiles) -> RawRecords:
    """Return every annotated image of every split of user-supplied files in COCO's format.

    A caption of an image that its file does not list counts as a missing image.
    """
    images: list[RawRecord] = []
    missing: list[str] = []
    without_captions: list[str] = []
    set_aside: list[tuple[int, str]] = []
    layout = read_layout(files.folder)
    for split, names in layout.items():
        annotations = parse_annotations(files.read_text(names.annotations), names.annotations, files.folder)
        missing += annotations.unlisted
        members = _ArchiveMembers(files.folder / names.images)
        for image_id, file_name in sorted(annotations.file_names.items()):
            member = members.find(file_name)
            if image_id not in annotations.captions:
                without_captions.append(f"{split}: {file_name}")
            elif member is None:
                missing.append(f"{names.images}: {file_name}")
            else:
                images.append(RawRecord(image_id, member, names.images, split, tuple(annotations.captions[image_id])))
                continue
            set_aside.append((image_id, file_name))
    try:
        require_unique(images)
    except InputError as error:
        raise InputError(f"{files.folder / LAYOUT_FILE}: {error}: expected ids that the splits do not share") from None
    return RawRecords(
        tuple(images), "val" in layout, tuple(sorted(missing)), tuple(without_captions), set_aside=tuple(set_aside)
    )


def parse_annotations(text: str, name: str, folder: Path) -> Annotations:
    """Return the content of the annotation file `name` of `folder`. An entry repeated under the same id counts once.

    Raises `InputError` naming file and entry for another format, and for an image id with two file names.
    """
    content = parse_json(text, where=f"{folder}: {name}")
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
    known_entries: set[tuple[str, int, str]] = set()
    for annotation in content["annotations"]:
        image_id, caption = _field(annotation, "image_id", int, name), _field(annotation, "caption", str, name)
        if "id" in annotation:
            entry = (str(annotation["id"]), image_id, caption)
            if entry in known_entries:
                continue
            known_entries.add(entry)
        captions[image_id].append(caption)
    unlisted = (f"{name}: image_id {image_id} is not among its images" for image_id in captions.keys() - file_names)
    return Annotations(file_names, captions, tuple(unlisted))


def require_unique(images: Iterable[RawRecord]) -> None:
    """Raise `InputError` naming the first image id that two images have."""
    file_names: dict[int, str] = {}
    for image in images:
        if image.image_id in file_names:
            raise InputError(f"image id {image.image_id} is both {file_names[image.image_id]} and {image.file_name}")
        file_names[image.image_id] = image.file_name


class _ArchiveMembers:
    """The members of a zip archive, looked up by the end of their path: archives often have a folder around images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file; fetch the source again")
        with ZipMembers(path) as archive:
            self.names = set(archive.names)
        self.by_last_part: dict[str, list[str]] = {}
        for name in sorted(self.names):
            self.by_last_part.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def find(self, file_name: str) -> str | None:
        """Return the member of this path, or else the one that ends with it; raise `InputError` if two do."""
        file_name = normal_name(file_name)
        if file_name in self.names:
            return file_name
        candidates = self.by_last_part.get(file_name.rsplit("/", 1)[-1], [])
        matches = [name for name in candidates if name.endswith(f"/{file_name}")]
        if len(matches) > 1:
            raise InputError(f"{self.path}: {file_name} may be {matches[0]} or {matches[1]}: expected one of this name")
        return matches[0] if matches else None


def _read_subset(files: RawFiles) -> set[str] | None:
    """Return "<folder>/<file name>" of the images fetched one by one, or None if whole archives were fetched."""
    if files.find(SUBSET_FILE) is None:
        return None
    content = parse_json(files.read_text(SUBSET_FILE), where=files.folder / SUBSET_FILE)
    chosen = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(chosen, Mapping) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in chosen.values()
    ):
        raise InputError(f"{files.folder / SUBSET_FILE}: images: expected lists of file names; fetch the source again")
    return {f"{folder_name}/{name}" for folder_name, names in chosen.items() for name in names}


def _field(entry: Any, key: str, kind: type, name: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if type(value) is not kind:
        raise InputError(f"{name}: {key}: got {shorten(value)}: expected {kind.__name__} in {shorten(entry)}")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise InputError(f"{name}: {key}: got {shorten(value)}: expected a number of at most 64 bits")
    return value
