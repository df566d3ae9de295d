"""Checkpoint files: a trained model's weights, the description needed to rebuild it, and its training data."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, create_model
from torch import Tensor

from seesay.core.errors import InputError
from seesay.core.files import write_bytes
from seesay.core.settings import AsTuple, validate
from seesay.params.classification import Architecture

Kind = Literal["classifier", "autoencoder", "captioner"]
FORMAT = "seesay-checkpoint-1"

Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""A number of classes, words, dimensions or pixels."""


class DescribedArchitecture(BaseModel):
    """An architecture in the form stored in checkpoints."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    arguments: dict[str, Any]


class NamedClass(Protocol):
    """Anything with a WordNet id, such as a dataset's class."""

    @property
    def wnid(self) -> str: ...


@dataclass(frozen=True)
class Checkpoint:
    """A trained model.

    `sizes` holds the constructor arguments that the data decide. `classes` are wnids in the order of the head's
    outputs. `vocabulary_digest` is the digest of a captioner's vocabulary. Both are empty for models without classes or
    vocabulary. `normalisation` is `{"mean": [r, g, b], "std": [r, g, b]}` or empty.
    """

    kind: Kind
    dataset: str
    dataset_digest: str
    classes: Annotated[tuple[str, ...], AsTuple]
    vocabulary_digest: str
    architecture: dict[str, Any]
    sizes: dict[str, Size]
    settings: dict[str, Any]
    normalisation: dict[str, list[float]]
    state_dict: dict[str, Tensor]
    metrics: dict[str, float]

    @property
    def parsed_architecture(self) -> Architecture:
        return Architecture(name=self.architecture["name"], **self.architecture["arguments"])

    @property
    def image_size(self) -> int:
        """The side of the images that the model takes, in pixels; `InputError` where the file does not say it."""
        if "image_size" not in self.sizes:
            raise InputError(f"checkpoint of {self.dataset}: sizes.image_size: missing")
        return self.sizes["image_size"]

    def require_classes(self, classes: Sequence[NamedClass]) -> None:
        """Raise `InputError` unless `classes` are the ones trained on, in the same order."""
        wnids = tuple(one.wnid for one in classes)
        if wnids == self.classes:
            return
        if len(wnids) != len(self.classes):
            raise InputError(
                f"checkpoint of {self.dataset}: has {len(self.classes)} classes, but the data have {len(wnids)}"
            )
        index = next(i for i, (ours, theirs) in enumerate(zip(self.classes, wnids, strict=True)) if ours != theirs)
        raise InputError(
            f"checkpoint of {self.dataset}: class {index} is {self.classes[index]}, but {wnids[index]} in the data"
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
    weights = {
        # A copy: a view would bring its whole storage along, and channels-last strides would be preserved.
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in checkpoint.state_dict.items()
    }
    buffer = io.BytesIO()
    text = json.dumps(header_of(checkpoint), sort_keys=True, ensure_ascii=False)
    torch.save({"format": FORMAT, "header": text, "state_dict": weights}, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, *, kind: Kind) -> Checkpoint:
    """Load the checkpoint at `path` with its weights on the CPU, without running code from the file.

    Raises `InputError` for a missing or damaged file, for one that is not a seesay checkpoint, for one of another kind,
    and for weights that are not finite.
    """
    content = read_tensors(path)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a seesay checkpoint: expected the format {FORMAT!r}")
    try:
        header = json.loads(content["header"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: its header is missing or not valid JSON ({_brief(error)})") from None
    checkpoint = parse_checkpoint(header, content.get("state_dict"), where=path)
    if checkpoint.kind != kind:
        raise InputError(f"{path}: holds a {checkpoint.kind}, expected a {kind}")
    return checkpoint


def header_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return everything in a checkpoint but the weights."""
    return {name: getattr(checkpoint, name) for name in _HEADER}


def parse_checkpoint(header: Any, state_dict: Any, *, where: Path) -> Checkpoint:
    """Return the checkpoint of `header_of` and its weights; raises `InputError`, naming `where`, for anything else."""
    described: BaseModel = validate(header, _Header, where=str(where))
    validate(header["architecture"], DescribedArchitecture, where=str(where), prefix=["architecture"])
    return Checkpoint(**dict(described), state_dict=_weights(where, state_dict))


def _weights(path: Path, state_dict: Any) -> dict[str, Tensor]:
    """Return `state_dict`, tensors by name; raise `InputError` where they are not finite numbers in memory."""
    if not isinstance(state_dict, Mapping):
        raise InputError(f"{path}: damaged: state_dict: expected a mapping from names to tensors")
    for name, tensor in state_dict.items():
        if not isinstance(tensor, Tensor) or not _is_plain(tensor):
            raise InputError(f"{path}: damaged: {name}: expected a dense tensor of real numbers")
        if not tensor.isfinite().all():
            raise InputError(f"{path}: damaged: {name} has values that are not finite")
    return dict(state_dict)


def _is_plain(tensor: Tensor) -> bool:
    in_memory = tensor.device.type == "cpu" and tensor.layout == torch.strided and tensor.is_contiguous()
    return in_memory and not tensor.is_complex() and not tensor.is_quantized


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
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise InputError(f"{path}: not a readable checkpoint: expected an archive without compression")
            if damaged := archive.testzip():
                raise InputError(f"{path}: damaged: the checksum of {damaged} does not match")
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable checkpoint ({_brief(error)})") from None
    return load_pickled(path, content, what="a readable checkpoint")


def load_pickled(path: Path, content: bytes, *, what: str) -> Any:
    """Load what `torch.save` has written, the `content` of `path`, on the CPU, without running code from it.

    Raises `InputError` where it is not `what` is expected.
    """
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message advises to load the file unsafely
        raise InputError(f"{path}: not {what}: it is cut short, or holds something other than tensors") from None
    except Exception as error:  # a damaged pickle raises many types: IndexError, AttributeError, struct.error ...
        raise InputError(f"{path}: not {what} ({_brief(error)})") from None


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error)[:1000].split())}"[:200]


_HEADER = tuple(name for name in Checkpoint.__dataclass_fields__ if name != "state_dict")
_TYPES = get_type_hints(Checkpoint, include_extras=True)
_FIELDS: dict[str, Any] = {name: (_TYPES[name], ...) for name in _HEADER}
_Header = create_model("_Header", __config__=ConfigDict(strict=True, extra="forbid"), **_FIELDS)
