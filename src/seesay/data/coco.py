"""How COCO 2017's captions are laid out: `captions_train2017.json`, `captions_val2017.json` and the images' folders.

The official val split has the role of test; val is cut from train by `prepare_captions`. Our generated scenes come in
the same layout. Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from seesay.data.found_captions import FoundCaptions, FoundImage, RawFiles
from seesay.errors import InputError

ROLES = {"train2017": "train", "val2017": "test"}
SUBSET_FILE = "subset.json"
"""Where images were fetched one by one: which ones, `{"images": {"train2017": [file name, ...], ...}, ...}`."""


def annotation_file(folder_name: str) -> str:
    return f"captions_{folder_name}.json"


def find_coco_captions(files: RawFiles) -> FoundCaptions:
    """Every annotated image; an annotation of an image that is not listed counts as a missing image."""
    images: list[FoundImage] = []
    missing: list[str] = []
    without_captions: list[str] = []
    subset = _subset(files)
    for folder_name, role in ROLES.items():
        name = annotation_file(folder_name)
        content = _parse(files.read_text(name), name, files)
        file_names = {
            _field(image, "id", int, name): _field(image, "file_name", str, name) for image in content["images"]
        }
        captions: dict[int, list[str]] = defaultdict(list)
        for annotation in content["annotations"]:
            captions[_field(annotation, "image_id", int, name)].append(_field(annotation, "caption", str, name))
        missing += [f"{name}: image_id {image_id} is not among its images" for image_id in captions.keys() - file_names]
        for image_id, file_name in sorted(file_names.items()):
            member = f"{folder_name}/{file_name}"
            if subset is not None and member not in subset:
                continue
            found = files.find(member)
            if image_id not in captions:
                without_captions.append(member)
            elif found is None:
                missing.append(member)
            else:
                images.append(FoundImage(image_id, found[1], found[0], role, tuple(captions[image_id])))
    _require_unique(images)
    return FoundCaptions(tuple(images), False, tuple(sorted(missing)), tuple(without_captions))


def _subset(files: RawFiles) -> set[str] | None:
    if files.find(SUBSET_FILE) is None:
        return None
    content = _json(files.read_text(SUBSET_FILE), SUBSET_FILE, files)
    chosen = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(chosen, Mapping) or not all(isinstance(names, list) for names in chosen.values()):
        raise InputError(f"{files.folder / SUBSET_FILE}: images: expected lists of file names; fetch the source again")
    return {f"{folder_name}/{name}" for folder_name, names in chosen.items() for name in names}


def _parse(text: str, name: str, files: RawFiles) -> dict[str, Any]:
    content = _json(text, name, files)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise InputError(f"{files.folder}: {name}: expected an object with the lists images and annotations")
    return content


def _json(text: str, name: str, files: RawFiles) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{files.folder}: {name}: not valid JSON, line {error.lineno}: {error.msg}") from None


def _field(entry: Any, key: str, kind: type, name: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if type(value) is not kind:
        raise InputError(f"{name}: {key}: got {value!r}: expected {kind.__name__} in {str(entry)[:80]}")
    return value


def _require_unique(images: list[FoundImage]) -> None:
    seen: dict[int, str] = {}
    for image in images:
        if image.image_id in seen:
            raise InputError(f"image id {image.image_id} is both {seen[image.image_id]} and {image.file_name}")
        seen[image.image_id] = image.file_name
