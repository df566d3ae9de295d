"""Resuming an interrupted training run."""

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
class TrainingState:
    """Training progress: one row of metrics per epoch, the best epoch's weights, and the processor time used."""

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

    def is_out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.num_epochs - self.best_epoch >= patience


class Resumable:
    """The file with the state of one training run, written after each epoch; with `folder` None there is no file.

    It stays after the last epoch: the folder's owner removes it when the trained weights are safe.
    """

    def __init__(
        self, folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None
    ) -> None:
        self._path = None if folder is None else folder / STATE_FILE
        self._parts: dict[str, Any] = {"model": model, "optimizer": optimizer}
        if average is not None:
            self._parts["average"] = average.model
        self._fingerprint = ""

    def load(self, *description: str) -> TrainingState:
        """Load the state and restore model, optimizer and average; return a new state when there is none to resume.

        A file is used only if its `description` (settings, seed ...) and its initial weights are the same. Any other
        file, or one that cannot be read, is ignored with a warning. Raises `InputError` for a file of this training
        whose content does not fit it.
        """
        self._fingerprint = _fingerprint(self._parts["model"], description)
        if self._path is None or not self._path.exists():
            return TrainingState()
        try:
            content = read_tensors(self._path)
            if not isinstance(content, dict) or set(content) != {*self._parts, "fingerprint", "course"}:
                raise InputError(f"{self._path}: not the state of a training")
            if content["fingerprint"] != self._fingerprint:
                raise InputError(f"{self._path}: belongs to another run")
        except InputError as error:
            warnings.warn(f"{error}: training starts from the beginning", stacklevel=2)
            return TrainingState()
        try:
            state = TrainingState(**content["course"])
            for name, part in self._parts.items():
                part.load_state_dict(content[name])
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"{self._path}: damaged ({' '.join(str(error).split())[:200]}): delete it") from None
        return state

    def save(self, state: TrainingState) -> None:
        if self._path is None:
            return
        content = {name: part.state_dict() for name, part in self._parts.items()}
        buffer = io.BytesIO()  # on a full disk torch.save raises a RuntimeError that names no file
        torch.save({**content, "fingerprint": self._fingerprint, "course": vars(state)}, buffer)
        write_bytes(self._path, buffer.getvalue())


def copy_to_cpu(model: nn.Module) -> dict[str, Tensor]:
    """Copy the model's weights and buffers to the CPU, in the default memory format."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def _fingerprint(model: nn.Module, description: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join(description).encode())
    for name, tensor in copy_to_cpu(model).items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
