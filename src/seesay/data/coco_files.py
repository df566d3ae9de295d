"""How captions of a person's own are laid out: COCO's format, an annotation file and an archive of images a split."""

from __future__ import annotations

import zipfile
from pathlib import Path

from seesay.data.coco import parse_annotations, require_unique
from seesay.data.coco_files_layout import LAYOUT_FILE, read_layout
from seesay.data.found_captions import FoundCaptions, FoundImage, RawFiles
from seesay.errors import InputError


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
