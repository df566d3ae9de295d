"""How a killed training goes on where it stood."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seesay.core.errors import InputError
from seesay.core.files import write_bytes
from seesay.training.checkpoint import read_tensors
from seesay.training.optim import MovingAverage

STATE_FILE = "training_state.pt"


@dataclass
class Course:
    """How far training has come: rows of metrics an epoch, the best epoch's weights, and the processor time spent."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    core_seconds: float = 0.0

    @property
    def num_epochs(self) -> int:
        return len(self.history)

    @property
    def best(self) -> dict[str, float]:
        return self.history[self.best_epoch - 1]

    def out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.num_epochs - self.best_epoch >= patience


class Resumable:
    """The state of one training in a file, written after each epoch; `folder` None keeps none."""

    def __init__(
        self, folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None
    ) -> None:
        self._path = None if folder is None else folder / STATE_FILE
        self._parts: dict[str, Any] = {"model": model, "optimizer": optimizer}
        if average is not None:
            self._parts["average"] = average.model
        self._fingerprint = ""

    def load(self, *described_by: str) -> Course:
        """The course so far, with model, optimizer and average put back; a new course when there is nothing to resume.

        A state counts only for the same description (settings, seed ...) and the same first weights; any other is
        ignored, and so is one that cannot be read.
        """
        self._fingerprint = _fingerprint(self._parts["model"], described_by)
        if self._path is None or not self._path.exists():
            return Course()
        try:
            state = read_tensors(self._path)
        except InputError as error:
            warnings.warn(f"{error}: training starts anew", stacklevel=2)
            return Course()
        if state["fingerprint"] != self._fingerprint:
            warnings.warn(f"{self._path}: is of another training: training starts anew", stacklevel=2)
            return Course()
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        return Course(**state["course"])

    def save(self, course: Course) -> None:
        if self._path is None:
            return
        state = {name: part.state_dict() for name, part in self._parts.items()}
        buffer = io.BytesIO()  # on a full disk torch.save raises a RuntimeError that names no file
        torch.save({**state, "fingerprint": self._fingerprint, "course": vars(course)}, buffer)
        write_bytes(self._path, buffer.getvalue())

    def remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def copy_to_cpu(model: nn.Module) -> dict[str, Tensor]:
    """A snapshot of the model's weights and buffers, in the default memory format."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def _fingerprint(model: nn.Module, described_by: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join(described_by).encode())
    for name, tensor in copy_to_cpu(model).items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
