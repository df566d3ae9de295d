"""Members of folders and zip archives: listed under normalised names and read up to a limit."""

from __future__ import annotations

import lzma
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from seesay.arrays import one_line
from seesay.core.errors import InputError
from seesay.core.files import decode_text

MAX_IMAGE_BYTES = 1 << 28
"""The largest image file that is read, 256 MiB."""
MAX_TEXT_BYTES = 1 << 29
"""The largest text file that is read, 512 MiB; the largest of COCO's caption files has 144 MB."""
IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
LABELS_FILE = "labels.csv"
"""The CSV beside an archive of user-supplied images that lists them."""
AGAIN = "fetch the source again; pack an archive of your own again first"


def normal_name(name: str) -> str:
    """Return a member's name as it is looked up: in Unicode's NFC, with `/` between folders, not beginning with `./`.

    macOS writes NFD, and some Windows programs write backslashes.
    """
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./").lstrip("/")


def is_hidden(name: str) -> bool:
    """Return whether a normalised name belongs to a file that systems leave beside those of a person."""
    parts = name.split("/")
    return any(part.startswith(".") for part in parts) or "__MACOSX" in parts or parts[-1].lower() in _SYSTEM_FILES


_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_zip_name(name: str) -> bool:
    return name.lower().endswith(".zip")


def list_zips(folder: Path) -> list[Path]:
    """Return the zip archives directly in a folder, sorted; one whose name has no suffix is known by its content."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and (is_zip_name(path.name) or (not path.suffix and zipfile.is_zipfile(path)))
    ]


def list_folder(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by normalised name, sorted, without hidden ones."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    stored = _normalised(names, folder)
    return {name: names[stored[name]] for name in sorted(stored)}


class ZipMembers:
    """The members of an open zip archive, without folders and hidden files. Threads may share it, processes may not.

    `names` maps each normalised name to the name in the archive. Whatever is wrong with the archive raises
    `InputError`, which names the archive and the member.
    """

    def __init__(self, path: Path | str, file: IO[bytes] | None = None) -> None:
        self.path = path
        with zip_errors(f"{path}: not a readable zip archive"):
            self._archive = zipfile.ZipFile(path if file is None else file)
            self.names = _normalised((info.filename for info in self._archive.infolist() if not info.is_dir()), path)

    def __enter__(self) -> ZipMembers:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str, *, limit: int = MAX_IMAGE_BYTES) -> bytes:
        """Return a member's bytes; raises `InputError` if there is none or it has more than `limit` bytes."""
        where = f"{self.path}: {name}"
        stored = self.names.get(normal_name(name))
        if stored is None:
            raise InputError(f"{where}: no such member; {AGAIN}")
        content = bytearray()
        with zip_errors(f"{where}: damaged"):
            if self._archive.getinfo(stored).file_size > limit:  # the size stated; it may be a lie
                raise InputError(f"{where}: unpacks to more than the {limit:,} bytes allowed")
            with self._archive.open(stored) as file:
                while chunk := file.read(4096):  # small, since bzip2 and LZMA unpack all that is read at once
                    content += chunk
                    if len(content) > limit:
                        raise InputError(f"{where}: unpacks to more than the {limit:,} bytes allowed")
        return bytes(content)

    def read_text(self, name: str) -> str:
        """Return a member's text; raises `InputError` if it cannot be read or is not UTF-8."""
        return decode_text(self.read(name, limit=MAX_TEXT_BYTES), where=f"{self.path}: {name}")


@contextmanager
def zip_errors(message: str) -> Iterator[None]:
    """Turn what the standard library raises for a damaged or encrypted archive into `InputError`."""
    try:
        yield
    except (InputError, TimeoutError, ConnectionError):  # a broken connection is no damage
        raise
    except FileNotFoundError:
        raise InputError(f"{message.rpartition(': ')[0]}: no such file; {AGAIN}") from None
    except RuntimeError as error:
        if "password" in str(error):
            message, error = message.rpartition(": ")[0], RuntimeError("encrypted: unpack it and pack it anew")
            raise InputError(f"{message}: {error} without a password") from None
        raise InputError(f"{message} ({error}); {AGAIN}") from None
    except _ZIP_ERRORS as error:
        raise InputError(f"{message} ({one_line(error)}); {AGAIN}") from None


_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, struct.error, ValueError,
    OverflowError, LookupError, OSError,
)  # fmt: skip


def read_file(path: Path, *, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """Return a file's bytes; raises `InputError` if there is none or it has more than `limit` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; fetch the source again") from None
    if len(content) > limit:
        raise InputError(f"{path}: has more than the {limit:,} bytes allowed")
    return content


def _normalised(names: Iterable[str], where: Path | str) -> dict[str, str]:
    stored: dict[str, str] = {}
    for name in names:
        normal = normal_name(name)
        if is_hidden(normal):
            continue
        if stored.setdefault(normal, name) != name:
            raise InputError(f"{where}: {stored[normal]!r} and {name!r} are the same name: expected one of them")
    return stored


@dataclass
class RawFiles:
    """The files of a raw folder: zip members and loose images, by the last parts of their paths.

    `members` maps "<folder>/<name>" to (archive file name, member path); "" is the archive of loose files.
    """

    folder: Path
    members: dict[str, tuple[str, str]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[str, str] | None:
        """Return (archive, path) of the member whose path ends with `name` ("val2017/000000000285.jpg"), or None."""
        return self.members.get(normal_name(name))

    def read_text(self, name: str) -> str:
        """Return the text of the member `name`, newlines unchanged.

        Raises `InputError` if it is missing, damaged or not UTF-8.
        """
        location = self.find(name)
        if location is None:
            raise InputError(f"{self.folder}: no file {name} here or in {self.describe_archives()}; {AGAIN}")
        archive, member = location
        if not archive:
            path = self.folder / member
            return decode_text(read_file(path, limit=MAX_TEXT_BYTES), where=path)
        with ZipMembers(self.folder / archive) as opened:
            return opened.read_text(member)

    def describe_archives(self) -> str:
        """Return the names of the archives, for messages on what was looked through."""
        return ", ".join(path.name for path in list_zips(self.folder)) or "an archive (there is none)"


class MemberReader:
    """The images of a raw folder by archive and name. Threads have their own zip handles; a process needs a reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()

    def read(self, archive: str, name: str) -> bytes:
        """Return the bytes of a member of `archive`, or of a loose file if that is ""."""
        if not archive:
            return read_file(self.folder / name)
        opened: dict[str, ZipMembers] = self._local.__dict__.setdefault("opened", {})
        if archive not in opened:
            opened[archive] = ZipMembers(self.folder / archive)
        return opened[archive].read(name)


def list_raw_files(folder: Path) -> RawFiles:
    """List the files of a raw folder; raise `InputError` naming an archive that cannot be opened."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; fetch the source first")
    members: dict[str, tuple[str, str]] = {}
    archives = list_zips(folder)
    for path in archives:
        with ZipMembers(path) as archive:
            for name in archive.names:
                _register(members, path.name, name)
    for name, path in list_folder(folder).items():
        if path not in archives:
            _register(members, "", path.relative_to(folder).as_posix(), name)
    return RawFiles(folder, members)


def _register(members: dict[str, tuple[str, str]], archive: str, stored: str, name: str = "") -> None:
    parts = (name or stored).split("/")
    members.setdefault(parts[-1], (archive, stored))
    members["/".join(parts[-2:])] = (archive, stored)
