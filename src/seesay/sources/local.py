"""Import of user-supplied files into a raw folder: copied or packed, and checked against params.yaml."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import atomic_path, file_digest, read_json, write_json
from seesay.params.datasets import CocoFilesSource, ImageFolderSource
from seesay.scenes.drawing import write_zip
from seesay.sources.members import IMAGE_SUFFIXES, LABELS_FILE, ZipMembers, is_image_name, list_folder, zip_errors
from seesay.sources.provenance import SourceFile


def fetch_coco_files(source: CocoFilesSource, folder: Path, *, root: Path) -> list[SourceFile]:
    """Import each split's annotations and images into `folder`, and write the layout that names them.

    Relative paths are relative to `root`. Images shared by several splits are imported once. Correct files that are
    already present are kept, but a folder of images is always packed again. Raises `InputError` naming the key in
    params.yaml if a path does not lead to a file of the expected kind or a checksum differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[SourceFile] = []
    layout: dict[str, SplitFiles] = {}
    archives: dict[Path, str] = {}
    for name, split in source.splits.items():
        key = f"caption_sources.{folder.name}.{name}"
        path = local_path(split.annotations.path, root)
        target = folder / annotations_name(name)
        files.append(_bring(path, target, split.annotations.checksum, key=f"{key}.annotations"))
        path = local_path(split.images.path, root)
        if path not in archives:
            archives[path] = images_name(name)
            target = folder / archives[path]
            files.append(_bring(path, target, split.images.checksum or "", key=f"{key}.images", is_images=True))
        elif split.images.checksum:
            require_checksum(folder / archives[path], split.images.checksum, key=f"{key}.images", named=path)
        layout[name] = SplitFiles(annotations_name(name), archives[path])
    for name in {"train", "val", "test"} - layout.keys():
        (folder / annotations_name(name)).unlink(missing_ok=True)
    write_layout(folder, layout)
    return [*files, local_source_file(folder / LAYOUT_FILE, "generated:layout")]


IMAGES_FILE = "images.zip"


def fetch_image_folder(source: ImageFolderSource, folder: Path, *, root: Path) -> list[SourceFile]:
    """Import labelled images into `folder` as one archive, with their CSV of labels if there is one.

    Paths, checks and errors are as in `fetch_coco_files`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, path = f"image_sources.{folder.name}", local_path(source.path, root)
    files = [_bring(path, folder / IMAGES_FILE, source.checksum or "", key=key, is_images=True)]
    if source.labels is not None:
        path = local_path(source.labels.path, root)
        files.append(_bring(path, folder / LABELS_FILE, source.labels.checksum, key=f"{key}.labels"))
    return files


def changed_files(source: ImageFolderSource | CocoFilesSource, folder: Path, *, root: Path) -> list[Path]:
    """Return the user-supplied files and folders that differ from what was imported into `folder`.

    They are compared by names and sizes alone, which takes no reading. What is missing on either side is not compared.
    """
    imported: dict[Path, str] = {}
    if isinstance(source, ImageFolderSource):
        imported[local_path(source.path, root)] = IMAGES_FILE
        if source.labels is not None:
            imported[local_path(source.labels.path, root)] = LABELS_FILE
    else:
        for name, split in source.splits.items():
            imported.setdefault(local_path(split.annotations.path, root), annotations_name(name))
            imported.setdefault(local_path(split.images.path, root), images_name(name))
    return [path for path, name in imported.items() if _differs(path, folder / name)]


def _differs(path: Path, target: Path) -> bool:
    if not path.exists() or not target.is_file():
        return False
    if path.is_file():
        return path.stat().st_size != target.stat().st_size
    with zip_errors(f"{target}: not a readable zip archive"), zipfile.ZipFile(target) as archive:
        packed = {info.filename: info.file_size for info in archive.infolist()}
    return packed != {name: found.stat().st_size for name, found in list_folder(path).items() if _is_wanted(found)}


def forget_coco_files(folder: Path) -> None:
    """Remove the files of an earlier choice of `coco_files`, which would be mistaken for those of the current one."""
    names = (LAYOUT_FILE, *(annotations_name(split) for split in ("train", "val", "test")))
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _bring(path: Path, target: Path, checksum: str, *, key: str, is_images: bool = False) -> SourceFile:
    is_folder = is_images and path.is_dir()
    if not is_folder and not path.is_file():
        raise InputError(f"params.yaml: {key}.path: {path}: no such {'folder or zip archive' if is_images else 'file'}")
    if is_images and not is_folder and not zipfile.is_zipfile(path):
        raise InputError(f"params.yaml: {key}.path: {path}: expected a folder of images or a zip archive of them")
    if is_images and not is_folder:
        _require_readable(path, key)
    if is_folder or not _is_copy(target, path):
        with atomic_path(target) as temporary:
            if is_folder:
                write_zip(temporary, _images_of(path, key))
            else:
                shutil.copyfile(path, temporary)
            if checksum:
                require_checksum(temporary, checksum, key=key, named=path)
    elif checksum:
        require_checksum(target, checksum, key=key, named=path)
    return local_source_file(target, f"{LOCAL}{path.name}", checksum)


def _require_readable(path: Path, key: str) -> None:
    """Raise `InputError` if the first image of a person's own archive cannot be read; a password is for all of them."""
    try:
        with ZipMembers(path) as archive:
            for name in list(archive.names)[:1]:
                archive.read(name)
    except InputError as error:
        raise InputError(f"params.yaml: {key}.path: {error}") from None


def _is_copy(target: Path, path: Path) -> bool:
    same_size = target.is_file() and target.stat().st_size == path.stat().st_size
    return same_size and file_digest(target) == file_digest(path)


_TINY_IMAGENET_TEXTS = ("wnids.txt", "words.txt", "val_annotations.txt")


def _images_of(folder: Path, key: str) -> Iterator[tuple[str, bytes]]:
    """Yield (path inside the folder, content) of each image, and of Tiny ImageNet's text files, sorted by path."""
    paths = {name: path for name, path in list_folder(folder).items() if _is_wanted(path)}
    if not any(is_image_name(name) for name in paths):
        raise InputError(f"params.yaml: {key}.path: {folder}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
    for name in sorted(paths):
        yield name, paths[name].read_bytes()


def _is_wanted(path: Path) -> bool:
    return is_image_name(path.name) or path.name in _TINY_IMAGENET_TEXTS


LOCAL = "local:"
"""The prefix of the `url` of a file from this machine; the file's name follows, never its folder."""


def local_path(path: str, root: Path) -> Path:
    """Resolve a path from params.yaml; a relative one is relative to `root`."""
    return (root / Path(path).expanduser()).resolve()


def read_checked(path: Path, checksum: str, *, key: str) -> bytes:
    """Read a user-supplied file; raises `InputError` naming `key` in params.yaml if it is missing or has changed."""
    if not path.is_file():
        raise InputError(f"params.yaml: {key}.path: {path}: no such file")
    require_checksum(path, checksum, key=key, named=path)
    return path.read_bytes()


def require_checksum(content: Path, checksum: str, *, key: str, named: Path) -> None:
    """Raise `InputError` if `content`, imported from `named`, does not match `checksum`."""
    found = f"sha256:{file_digest(content)}"
    if found != checksum:
        raise InputError(
            f"params.yaml: {key}.checksum: expected {checksum}, but {named} has {found}; "
            "if this is the intended content, write its checksum there"
        )


def local_source_file(path: Path, url: str, checksum: str = "") -> SourceFile:
    """Describe the file at `path`; `checksum` is the one given in params.yaml, or "" if there is none."""
    return SourceFile(path.name, url, file_digest(path), path.stat().st_size, checksum, False)


LAYOUT_FILE = "coco_files.json"


@dataclass(frozen=True)
class SplitFiles:
    """The names of one split's annotation file and image archive in the raw folder; splits may share images."""

    annotations: str
    images: str


def annotations_name(split: str) -> str:
    return f"captions_{split}.json"


def images_name(split: str) -> str:
    return f"images_{split}.zip"


def write_layout(folder: Path, splits: Mapping[str, SplitFiles]) -> None:
    write_json(folder / LAYOUT_FILE, {split: asdict(files) for split, files in splits.items()})


def read_layout(folder: Path) -> dict[str, SplitFiles]:
    """Read the files of each split, train first; raises `InputError` if the layout file is damaged."""
    path = folder / LAYOUT_FILE
    content = read_json(path)
    try:
        layout = {split: SplitFiles(**content[split]) for split in ("train", "val", "test") if split in content}
        names = [name for files in layout.values() for name in (files.annotations, files.images)]
        is_whole = "train" in layout and len(layout) == len(content) and all(isinstance(name, str) for name in names)
    except TypeError:
        is_whole = False
    if not is_whole:
        raise InputError(f"{path}: expected annotations and images of train, val and test; fetch the source again")
    return layout
