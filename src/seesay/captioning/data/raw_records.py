"""Raw records of a caption source, before any check or split: images, captions, and what does not fit together."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from seesay.core.errors import InputError


@dataclass(frozen=True)
class RawRecord:
    """One image of an official split ("train", "val" or "test"), with its file and its captions, unchanged."""

    image_id: int
    file_name: str
    archive: str
    split: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class RawRecords:
    """All images of a source, and the names of what does not fit together.

    `has_val` tells if the source has a val split. `set_aside` holds (image id, file name) of the images that the source
    lists and `images` lacks: outside a fetched subset, without a file, or without a caption. The id is 0 if the source
    has no ids.
    """

    images: tuple[RawRecord, ...]
    has_val: bool
    missing_images: tuple[str, ...]
    without_captions: tuple[str, ...]
    in_no_split: tuple[str, ...] = ()
    malformed_captions: tuple[str, ...] = ()
    set_aside: tuple[tuple[int, str], ...] = ()


@dataclass
class RawFiles:
    """The files of a raw folder: zip members and loose images, by the last parts of their paths.

    `members` maps "<folder>/<name>" to (archive file name, member path); "" is the archive of loose files.
    """

    folder: Path
    members: dict[str, tuple[str, str]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[str, str] | None:
        """Return (archive, path) of the member whose path ends with `name` ("val2017/000000000285.jpg"), or None."""
        return self.members.get(name)

    def read_text(self, name: str) -> str:
        """Return the text of the member `name`, newlines unchanged.

        Raises `InputError` if it is missing, damaged or not UTF-8.
        """
        location = self.find(name)
        if location is None:
            raise InputError(f"{self.folder}: no archive here has {name}; fetch the source again")
        archive, member = location
        try:
            if not archive:
                return (self.folder / member).read_bytes().decode("utf-8")
            with zipfile.ZipFile(self.folder / archive) as opened:
                return opened.read(member).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.folder / archive}: {member}: expected UTF-8 text; byte {error.start} is not"
            ) from None
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise InputError(f"{self.folder / archive}: {member}: damaged ({error}); fetch the source again") from None


def list_raw_files(folder: Path) -> RawFiles:
    """List the files of a raw folder; raise `InputError` naming an archive that cannot be opened."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; fetch the source first")
    members: dict[str, tuple[str, str]] = {}
    for path in sorted(folder.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, EOFError) as error:
            raise InputError(f"{path}: not a readable zip archive ({error}); fetch the source again") from None
        for name in names:
            if not name.startswith("__MACOSX/"):
                _register(members, path.name, name)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".zip":
            _register(members, "", path.relative_to(folder).as_posix())
    return RawFiles(folder, members)


def _register(members: dict[str, tuple[str, str]], archive: str, name: str) -> None:
    parts = name.split("/")
    members.setdefault(parts[-1], (archive, name))
    members["/".join(parts[-2:])] = (archive, name)
