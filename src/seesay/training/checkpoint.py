"""Checkpoint files: a trained model's weights, the description needed to rebuild it, and its training data."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from seesay.core.errors import InputError
from seesay.core.files import write_bytes
from seesay.params.classification import Architecture

Kind = Literal["classifier", "autoencoder", "captioner"]
FORMAT = "seesay-checkpoint-1"


class NamedClass(Protocol):
    """Anything with a WordNet id, such as a dataset's class."""

    @property
    def wnid(self) -> str: ...


@dataclass(frozen=True)
class Checkpoint:
    """A trained model.

    `sizes` holds the constructor arguments that are not part of the architecture. `classes` are wnids in the order of
    the head's outputs. `vocabulary_digest` is the digest of a captioner's vocabulary. Both are empty for models
    without classes or vocabulary. `normalisation` is `{"mean": [r, g, b], "std": [r, g, b]}` or empty.
    """

    kind: Kind
    dataset: str
    dataset_digest: str
    classes: tuple[str, ...]
    vocabulary_digest: str
    architecture: dict[str, Any]
    sizes: dict[str, int]
    settings: dict[str, Any]
    normalisation: dict[str, list[float]]
    state_dict: dict[str, Tensor]
    metrics: dict[str, float]

    @property
    def parsed_architecture(self) -> Architecture:
        return Architecture(name=self.architecture["name"], **self.architecture["arguments"])

    def require_classes(self, classes: Sequence[NamedClass]) -> None:
        """Raise `InputError` unless `classes` are the ones trained on, in the same order."""
        wnids = tuple(one.wnid for one in classes)
        if wnids == self.classes:
            return
        if len(wnids) != len(self.classes):
            raise InputError(f"checkpoint of {self.dataset}: trained on {len(self.classes)} classes, got {len(wnids)}")
        index = next(i for i, (ours, theirs) in enumerate(zip(self.classes, wnids, strict=True)) if ours != theirs)
        raise InputError(
            f"checkpoint of {self.dataset}: class {index} is {self.classes[index]}, in the data it is {wnids[index]}"
        )

    def require_vocabulary(self, digest: str) -> None:
        """Raise `InputError` unless `digest` is that of the vocabulary used in training."""
        if digest != self.vocabulary_digest:
            raise InputError(
                f"checkpoint of {self.dataset}: trained with the vocabulary {self.vocabulary_digest[:12]}..., "
                f"got {digest[:12]}...: rebuild the vocabulary or retrain"
            )


def describe_architecture(architecture: Architecture) -> dict[str, Any]:
    """Return an architecture in the form stored in checkpoints."""
    return {"name": architecture.name, "arguments": architecture.arguments}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` atomically; equal content gives equal bytes.

    Everything but the weights is stored as one JSON text: pickle writes a repeated object as a reference, so equal
    nested values could differ in bytes. torch gets a buffer instead of the path because it would store the file's name.
    """
    header = {name: getattr(checkpoint, name) for name in _HEADER}
    weights = {
        # A copy: a view would bring its whole storage along, and channels-last strides would be preserved.
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in checkpoint.state_dict.items()
    }
    buffer = io.BytesIO()
    text = json.dumps(header, sort_keys=True, ensure_ascii=False)
    torch.save({"format": FORMAT, "header": text, "state_dict": weights}, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, *, kind: Kind) -> Checkpoint:
    """Load the checkpoint at `path` with its weights on the CPU, without running code from the file.

    Raises `InputError` for a missing or damaged file, for one that is not a seesay checkpoint, and for one of another
    kind.
    """
    content = read_tensors(path)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a seesay checkpoint: expected the format {FORMAT!r}")
    header = json.loads(content["header"])
    if header["kind"] != kind:
        raise InputError(f"{path}: holds a {header['kind']}, expected a {kind}")
    header["classes"] = tuple(header["classes"])
    return Checkpoint(**header, state_dict=content["state_dict"])


def read_tensors(path: Path) -> Any:
    """Read what `torch.save` wrote to `path`, on the CPU, without running code from the file.

    Raises `InputError` for a missing or damaged file.
    """
    try:
        content = path.read_bytes()  # outside the next `try`, so that a disk error is reported as such
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    try:
        # Checks the archive's own checksums: torch does not notice a changed weight.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if damaged := archive.testzip():
                raise InputError(f"{path}: damaged: the checksum of {damaged} does not match")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({' '.join(str(error).split())[:200]})") from None


_HEADER = tuple(name for name in Checkpoint.__dataclass_fields__ if name != "state_dict")
