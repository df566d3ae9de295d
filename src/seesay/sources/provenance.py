"""The notes beside fetched files: `source.json`, which travels into every manifest and report, and `encoder.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json

SOURCE_FILE = "source.json"
ENCODER_FILE = "encoder.json"
"""The file beside fetched weights: {"architecture": the network that they belong to}."""


@dataclass(frozen=True)
class SourceFile:
    """One file in a raw folder.

    `url` is the official one (never a mirror's), `generated:<what>`, or `local:<name>` for a user-supplied file.
    `expected_checksum` is the checksum given in the parameters, or "" if there is none. `is_substitute` means that the
    bytes are not known to be official.
    """

    name: str
    url: str
    sha256: str
    num_bytes: int
    expected_checksum: str
    is_substitute: bool


@dataclass(frozen=True)
class SourceNote:
    """A source's name (its key in params.yaml) and its files, in the order in which they were fetched."""

    name: str
    files: tuple[SourceFile, ...]

    @property
    def substitutes(self) -> tuple[str, ...]:
        """The names of the files that are used in place of official ones."""
        return tuple(file.name for file in self.files if file.is_substitute)

    def file(self, name: str) -> SourceFile | None:
        return next((file for file in self.files if file.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "files": [asdict(file) for file in self.files]}

    @staticmethod
    def from_json(value: Any, *, where: Path | str = SOURCE_FILE) -> SourceNote:
        """Parse the output of `to_json`; raises `InputError`, naming `where`, for anything else."""
        if not isinstance(value, Mapping) or set(value) != {"name", "files"} or not isinstance(value["files"], list):
            raise InputError(f"{where}: expected a source note with the keys name and files; fetch the source again")
        return SourceNote(str(value["name"]), tuple(_source_file(file, where) for file in value["files"]))


def read_source(folder: Path) -> SourceNote:
    """Read the note of a raw folder; raises `InputError` if it is missing or damaged."""
    path = folder / SOURCE_FILE
    return SourceNote.from_json(read_json(path), where=path)


def write_source(folder: Path, note: SourceNote) -> None:
    write_json(folder / SOURCE_FILE, note.to_json())


def read_architecture(folder: Path) -> str:
    """Read the network that the weights in `folder` belong to; raises `InputError` if it is not recorded."""
    where = folder / ENCODER_FILE
    content = read_json(where)
    if not isinstance(content, Mapping) or not isinstance(content.get("architecture"), str):
        raise InputError(f"{where}: expected the key architecture; fetch the weights again")
    return str(content["architecture"])


def write_architecture(folder: Path, architecture: str) -> None:
    write_json(folder / ENCODER_FILE, {"architecture": architecture})


def _source_file(value: Any, where: Path | str) -> SourceFile:
    kinds = {"name": str, "url": str, "sha256": str, "num_bytes": int, "expected_checksum": str, "is_substitute": bool}
    assert set(kinds) == {field.name for field in fields(SourceFile)}
    if not isinstance(value, Mapping) or set(value) != set(kinds):
        raise InputError(f"{where}: expected files with the keys {', '.join(kinds)}; fetch the source again")
    for key, kind in kinds.items():
        if type(value[key]) is not kind:
            raise InputError(f"{where}: {key}: got {value[key]!r}: expected {kind.__name__}; fetch the source again")
    return SourceFile(**value)
