"""Where an encoder's weights come from: a fetched file, a classifier trained here, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seesay.data.sources import SOURCE_FILE, SourceFile, SourceNote, read_source
from seesay.errors import InputError
from seesay.files import file_digest


@dataclass(frozen=True)
class Origin:
    """`weights` notes the file at `path`, None for an encoder of fixed filters; `digest` covers file or note.

    `trained_on` is a classifier's image dataset as {"dataset", "digest"}, None for an encoder that was fetched.
    """

    architecture: str
    weights: SourceNote
    path: Path | None
    digest: str
    trained_on: dict[str, str] | None


def fetched_origin(folder: Path, network: str) -> Origin:
    """Of the weights that `fetch_weights` put in `folder`, whose note names at most one file."""
    note = read_source(folder)
    if len(note.files) > 1:
        raise InputError(f"{folder / SOURCE_FILE}: names {len(note.files)} files; expected the one with the weights")
    path = folder / note.files[0].name if note.files else None
    return Origin(network, note, path, file_digest(folder / SOURCE_FILE), None)


def trained_origin(path: Path, cell: str, architecture: str, dataset: str, dataset_digest: str) -> Origin:
    """Of a classifier of ours in the checkpoint at `path`, which was trained on that dataset."""
    digest = file_digest(path)
    file = SourceFile(path.name, f"generated:{cell}", digest, path.stat().st_size, "", is_substitute=False)
    trained_on = {"dataset": dataset, "digest": dataset_digest}
    return Origin(architecture, SourceNote(cell, (file,)), path, digest, trained_on)
