"""The contents of raw folders: archives, single images or generated scenes, and `source.json`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import file_digest
from seesay.params.datasets import (
    Archive,
    CaptionSource,
    CocoFilesSource,
    CocoSource,
    Flickr8kSource,
    ImageFolderSource,
    ImageSource,
    ScenesCaptionSource,
    ScenesImageSource,
    Weights,
)
from seesay.scenes.caption_scenes import CAPTION_SCENE_FILES, write_caption_scenes
from seesay.scenes.class_scenes import CLASS_SCENES_FILE, write_class_scenes
from seesay.sources.archives import Mirror, fetch_archive, open_mirror
from seesay.sources.coco_images import fetch_coco_images, forget_coco_images
from seesay.sources.local import fetch_coco_files, fetch_image_folder, forget_coco_files
from seesay.sources.members import LABELS_FILE, list_zips
from seesay.sources.provenance import SOURCE_FILE, SourceFile, SourceNote, read_source, write_architecture, write_source

GENERATED_URL = "generated:scenes"


def mirror_from_environment() -> str | None:
    """Return the mirror named in the environment variable MIRROR: a folder or an http(s), s3 or file URL, or None."""
    return os.environ.get("MIRROR") or None


def fetch_image_source(
    source: ImageSource, folder: Path, *, mirror: str | None, scratch: Path, root: Path = Path()
) -> SourceNote:
    """Fill `folder` with an image source's archives; correct files that are already present are kept.

    Relative paths of user-supplied files are relative to `root`, the root of the workspace.
    """
    match source:
        case ImageFolderSource():
            files = fetch_image_folder(source, folder, root=root)
        case ScenesImageSource():
            write_class_scenes(
                folder / CLASS_SCENES_FILE,
                num_train_per_class=source.num_train_per_class,
                num_val_per_class=source.num_val_per_class,
                seed=source.seed,
            )
            files = _generated(folder, (CLASS_SCENES_FILE,))
        case _:
            files = _fetch_archives(source.archives, folder, _opened(mirror), scratch)
    if not isinstance(source, ImageFolderSource) or source.labels is None:
        (folder / LABELS_FILE).unlink(missing_ok=True)
    return _noted(folder, files)


def fetch_caption_source(
    source: CaptionSource, folder: Path, *, mirror: str | None, scratch: Path, root: Path = Path()
) -> SourceNote:
    """Fill `folder` with a caption source's annotations and images; correct files already present are kept.

    Relative paths of user-supplied files are relative to `root`, the root of the workspace.
    """
    match source:
        case CocoFilesSource():
            files = fetch_coco_files(source, folder, root=root)
        case ScenesCaptionSource():
            write_caption_scenes(folder, num_train=source.num_train, num_val=source.num_val, seed=source.seed)
            files = _generated(folder, CAPTION_SCENE_FILES)
        case Flickr8kSource():
            files = _fetch_archives(
                tuple(dict.fromkeys((source.text, source.images))), folder, _opened(mirror), scratch
            )
        case CocoSource(num_images=None):
            files = _fetch_archives((source.annotations, *source.image_archives), folder, _opened(mirror), scratch)
        case CocoSource():
            opened = _opened(mirror)
            files = _fetch_archives((source.annotations,), folder, opened, scratch)
            files += fetch_coco_images(source, folder, mirror=opened)
    if not isinstance(source, CocoSource) or source.num_images is None:
        forget_coco_images(folder)
    if not isinstance(source, CocoFilesSource):
        forget_coco_files(folder)
    return _noted(folder, files)


def fetch_weights(weights: Weights, folder: Path, *, mirror: str | None, scratch: Path) -> SourceNote:
    """Fill `folder` with the weights file under its official name, if there is one, and record its architecture."""
    archives = () if weights.archive is None else (weights.archive,)
    files = _fetch_archives(archives, folder, _opened(mirror), scratch)
    write_architecture(folder, weights.architecture)
    return _noted(folder, files)


def _fetch_archives(
    archives: Sequence[Archive], folder: Path, mirror: Mirror | None, scratch: Path
) -> list[SourceFile]:
    folder.mkdir(parents=True, exist_ok=True)
    earlier = _earlier_note(folder)
    return [fetch_archive(archive, folder, mirror=mirror, scratch=scratch, earlier=earlier) for archive in archives]


def _opened(mirror: str | None) -> Mirror | None:
    return None if mirror is None else open_mirror(mirror)


def _earlier_note(folder: Path) -> SourceNote | None:
    """Read the note of an earlier fetch; without a readable one, files are judged by checksums alone."""
    try:
        return read_source(folder)
    except InputError:
        return None


def _generated(folder: Path, names: Sequence[str]) -> list[SourceFile]:
    return [
        SourceFile(name, GENERATED_URL, file_digest(folder / name), (folder / name).stat().st_size, "", False)
        for name in names
    ]


def _noted(folder: Path, files: Sequence[SourceFile]) -> SourceNote:
    """Remove archives of an earlier choice, which would be mistaken for this one's, and write the note last."""
    expected = {SOURCE_FILE, *(Path(file.name).parts[0] for file in files)}
    for stray in list_zips(folder):
        if stray.name not in expected:
            stray.unlink()
    note = SourceNote(folder.name, tuple(files))
    write_source(folder, note)
    return note
