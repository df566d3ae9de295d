"""What trained models have in common as functions of images, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from seesay.compute import find_device
from seesay.core.errors import InputError
from seesay.images.pixels import ImageLike, Transform
from seesay.serving.bundle import Bundle, Config

BATCH_SIZE = 64
"""Images computed at a time."""

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)
Images = Sequence[ImageLike]


@dataclass(frozen=True)
class Evidence:
    """Where a model looked: `weights`, float32 (S, S), at each pixel of `pixels`, uint8 (S, S, 3), which it was shown.

    A classifier's weights are Grad-CAM in [0, 1] (or gradients at the input, for networks without convolutions). A
    captioner's are its attention, which sums to one.
    """

    weights: np.ndarray
    pixels: np.ndarray

    def overlay(self) -> Image.Image:
        """Return the picture, dark where the model did not look."""
        share = self.weights / max(float(self.weights.max()), np.finfo(np.float32).tiny)
        return Image.fromarray((self.pixels * (0.25 + 0.75 * share[..., None])).round().astype(np.uint8))


@dataclass(frozen=True)
class Prediction:
    """A class, its WordNet id where it has one, its calibrated probability, and the evidence for it if asked for."""

    label: str
    wnid: str
    score: float
    evidence: Evidence | None = None

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label, "wnid": self.wnid, "score": round(self.score, 6)}


@dataclass(frozen=True)
class Caption:
    """A caption, its log-probability (<eos> included), and the evidence for each of its `words` if asked for."""

    text: str
    log_probability: float
    evidence: tuple[Evidence, ...] | None = None

    @property
    def words(self) -> list[str]:
        return self.text.split()

    def to_json(self) -> dict[str, Any]:
        return {"caption": self.text, "log_probability": round(self.log_probability, 4)}


class Predictor:
    """What all models have: their `config` and their `device`."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.config: Config = bundle.config
        self.device = find_device(device)

    @property
    def name(self) -> str:
        return self.config.name

    def __repr__(self) -> str:
        return f"<seesay {self.config.kind} {self.name} on {self.device}>"

    def _labelled_images_transform(self) -> Transform:
        if self.config.transform is None:
            raise InputError(f"{self.name}: its bundle has no transform")
        return self.config.transform.build()


def on_device(network: Network, device: torch.device) -> Network:
    """Return a network in evaluation mode on a device, with its weights in the layout that is fast there."""
    network.to(device).to(memory_format=torch.channels_last)
    return network.eval()


def one_or_list(images: Any, predict: Callable[[Images], list[T]]) -> T | list[T]:
    """Return `predict` of a list of images or of an array (N, H, W, 3), or its first result for a single image."""
    if isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4):
        return predict(list(images)) if len(images) else []
    return predict([images])[0]


def batches_of(array: np.ndarray) -> list[np.ndarray]:
    return [array[start : start + BATCH_SIZE] for start in range(0, len(array), BATCH_SIZE)]


def require_positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{name}: got {value}: expected at least 1")
