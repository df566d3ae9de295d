"""Origin of an encoder's weights: a fetched file, our own classifier, either of them fine-tuned, or none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from seesay.captioning.data.records import CaptionRecords
from seesay.core.errors import InputError
from seesay.core.files import file_digest, read_json, write_json
from seesay.core.settings import validate
from seesay.sources.provenance import SOURCE_FILE, SourceFile, SourceNote, read_architecture, read_source

ORIGIN_FILE = "origin.json"

CLASSIFIER = "classifier"
"""The `network` of an encoder that is one of our classifiers, or was fine-tuned from one."""


@dataclass(frozen=True)
class Origin:
    """The origin of an encoder's weights.

    `weights` is the note of the file at `path`, which is None for an encoder of fixed filters. `digest` covers the file
    or the note. `network` is the published network's name, or `classifier`. `trained_on` is the image dataset of a
    classifier or the captions of a fine-tuned encoder, as {"dataset", "digest"}; None for a fetched encoder.
    """

    architecture: str
    weights: SourceNote
    path: Path | None
    digest: str
    trained_on: dict[str, str] | None
    network: str


def fetched_origin(folder: Path) -> Origin:
    """Return the origin of the weights that `fetch_weights` put in `folder`; raise `InputError` for several files."""
    note, network = read_source(folder), read_architecture(folder)
    if len(note.files) > 1:
        raise InputError(f"{folder / SOURCE_FILE}: names {len(note.files)} files; expected the one with the weights")
    path = folder / note.files[0].name if note.files else None
    return Origin(network, note, path, file_digest(folder / SOURCE_FILE), None, network)


def trained_origin(path: Path, name: str, architecture: str, dataset: str, dataset_digest: str) -> Origin:
    """Return the origin of our classifier `name` in the checkpoint at `path`, trained on that dataset."""
    file = _generated_file(path, name)
    trained_on = {"dataset": dataset, "digest": dataset_digest}
    return Origin(architecture, SourceNote(name, (file,)), path, file.sha256, trained_on, CLASSIFIER)


def write_finetuned_origin(
    path: Path,
    name: str,
    initial_weights: SourceNote,
    captions: CaptionRecords,
    *,
    architecture: str,
    network: str,
    captioner: str,
) -> None:
    """Write the origin of the fine-tuned weights at `path` beside them: initial weights, captions and captioner.

    The note lists the new file first, then the files it depends on: the initial weights, and the substitutes for
    official files among the captions' sources.
    """
    substitutes = tuple(file for file in captions.source.files if file.is_substitute)
    note = SourceNote(name, (_generated_file(path, name), *initial_weights.files, *substitutes))
    content = {
        "architecture": architecture,
        "network": network,
        "weights": note.to_json(),
        "trained_on": {"dataset": captions.name, "digest": captions.digest},
        "captioner": captioner,
    }
    write_json(path.parent / ORIGIN_FILE, content)


class _Stored(BaseModel):
    """The content of the note beside a fine-tuned encoder."""

    model_config = ConfigDict(strict=True, extra="forbid")

    architecture: str
    network: str
    weights: dict[str, Any]
    trained_on: dict[str, str]
    captioner: str


def finetuned_origin(folder: Path) -> Origin:
    """Read the origin of the fine-tuned encoder in `folder`.

    Raises `InputError` if its note or weights are missing or damaged.
    """
    where, advice = folder / ORIGIN_FILE, "run finetune_encoder again"
    content = read_json(where)
    try:
        stored: _Stored = validate(content, _Stored, where=str(where))
    except InputError as error:
        raise InputError(f"{error}; {advice}") from None
    note = SourceNote.from_json(stored.weights, where=where)
    if not note.files:
        raise InputError(f"{where}: weights.files: expected the weights first; {advice}")
    path = folder / note.files[0].name
    if not path.is_file() or file_digest(path) != note.files[0].sha256:
        raise InputError(f"{path}: missing, or not the weights that {ORIGIN_FILE} names; {advice}")
    return Origin(stored.architecture, note, path, file_digest(where), stored.trained_on, stored.network)


def _generated_file(path: Path, name: str) -> SourceFile:
    return SourceFile(path.name, f"generated:{name}", file_digest(path), path.stat().st_size, "", is_substitute=False)
