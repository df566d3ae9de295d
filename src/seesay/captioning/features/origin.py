"""Origin of an encoder's weights: a fetched file, our own classifier, either of them fine-tuned, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seesay.captioning.data.records import CaptionRecords
from seesay.core.errors import InputError
from seesay.core.files import file_digest, read_json, write_json
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


def finetuned_origin(folder: Path) -> Origin:
    """Read the origin of the fine-tuned encoder in `folder`.

    Raises `InputError` if its note or weights are missing or damaged.
    """
    where, advice = folder / ORIGIN_FILE, "run finetune_encoder again"
    content = read_json(where)
    keys = ("architecture", "network", "weights", "trained_on", "captioner")
    if not isinstance(content, Mapping) or set(content) != set(keys):
        raise InputError(f"{where}: expected the keys {', '.join(keys)}; {advice}")
    note = SourceNote.from_json(content["weights"], where=where)
    path = folder / note.files[0].name
    if not path.exists() or file_digest(path) != note.files[0].sha256:
        raise InputError(f"{path}: missing, or not the weights that {ORIGIN_FILE} names; {advice}")
    return Origin(content["architecture"], note, path, file_digest(where), content["trained_on"], content["network"])


def _generated_file(path: Path, name: str) -> SourceFile:
    return SourceFile(path.name, f"generated:{name}", file_digest(path), path.stat().st_size, "", is_substitute=False)
