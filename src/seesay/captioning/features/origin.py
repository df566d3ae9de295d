"""The origin of an encoder's weights: a fetched file, a classifier trained here, either fine-tuned, or none."""

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
"""The network of an encoder that is, or was made of, a classifier of ours."""


@dataclass(frozen=True)
class Origin:
    """`weights` notes the file at `path`, None for an encoder of fixed filters; `digest` covers file or note.

    `network` is the published network's name, or `classifier`. `trained_on` is a classifier's image dataset or a
    fine-tuned encoder's captions, as {"dataset", "digest"}, None for an encoder that was fetched.
    """

    architecture: str
    weights: SourceNote
    path: Path | None
    digest: str
    trained_on: dict[str, str] | None
    network: str


def fetched_origin(folder: Path) -> Origin:
    """Of the weights that `fetch_weights` put in `folder`, whose note names at most one file."""
    note, network = read_source(folder), read_architecture(folder)
    if len(note.files) > 1:
        raise InputError(f"{folder / SOURCE_FILE}: names {len(note.files)} files; expected the one with the weights")
    path = folder / note.files[0].name if note.files else None
    return Origin(network, note, path, file_digest(folder / SOURCE_FILE), None, network)


def trained_origin(path: Path, cell: str, architecture: str, dataset: str, dataset_digest: str) -> Origin:
    """Of a classifier of ours in the checkpoint at `path`, which was trained on that dataset."""
    file = _generated(path, cell)
    trained_on = {"dataset": dataset, "digest": dataset_digest}
    return Origin(architecture, SourceNote(cell, (file,)), path, file.sha256, trained_on, CLASSIFIER)


def write_finetuned_origin(
    path: Path,
    cell: str,
    before: SourceNote,
    captions: CaptionRecords,
    *,
    architecture: str,
    network: str,
    captioner: str,
) -> None:
    """Notes beside the weights at `path` from which ones they were made, with which captions and which captioner.

    The note lists the new file first, then those it was made from: what `before` names, and what stood in for official
    files among the captions' sources.
    """
    stood_in = tuple(file for file in captions.source.files if file.is_substitute)
    note = SourceNote(cell, (_generated(path, cell), *before.files, *stood_in))
    content = {
        "architecture": architecture,
        "network": network,
        "weights": note.to_json(),
        "trained_on": {"dataset": captions.name, "digest": captions.digest},
        "captioner": captioner,
    }
    write_json(path.parent / ORIGIN_FILE, content)


def finetuned_origin(folder: Path) -> Origin:
    """Of the encoder in `folder`; raises `InputError` where its note or weights are missing or damaged."""
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


def _generated(path: Path, cell: str) -> SourceFile:
    return SourceFile(path.name, f"generated:{cell}", file_digest(path), path.stat().st_size, "", is_substitute=False)
