"""Trained models as functions of images: what all have in common, what they return, classifiers and autoencoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from seesay.classification.networks.registry import restore_classifier
from seesay.compute import find_device
from seesay.core.errors import InputError
from seesay.images.augment.pipeline import normalise
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


class Classifier(Predictor):
    """A trained classifier: from images to classes with probabilities."""

    def __init__(self, bundle: Bundle, *, device: str = "auto") -> None:
        super().__init__(bundle, device)
        checkpoint = bundle.checkpoint()
        checkpoint.require_classes(bundle.config.classes)
        self.classes = bundle.config.classes
        self.transform = self._labelled_images_transform()
        self.network = on_device(restore_classifier(checkpoint), self.device)
        self._normalisation = checkpoint.normalisation

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is a sequence too: of its characters
        self, images: ImageLike, *, top: int = 5, explain: bool = False
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Images, *, top: int = 5, explain: bool = False) -> list[list[Prediction]]: ...
    def __call__(self, images: Any, *, top: int = 5, explain: bool = False) -> Any:
        """Return the `top` most probable classes, best first, of one image or of each in a list.

        `explain` adds the evidence for each class. Raises `InputError` for what is not a readable image.
        """
        require_positive("top", top)
        return one_or_list(images, lambda one: self.predict(self.transform.batch(one), top=top, explain=explain))

    def predict(self, pixels: np.ndarray, *, top: int = 5, explain: bool = False) -> list[list[Prediction]]:
        """Return the same for pixels that the transform has returned, uint8 (N, S, S, 3)."""
        logits = self.logits(pixels).astype(np.float64) / self.config.temperature
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        scores = shifted / shifted.sum(axis=1, keepdims=True)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        evidence = [self._evidence(pixels, order[:, rank]) for rank in range(order.shape[1])] if explain else []
        return [
            [
                self._prediction(index, scores[row, index], evidence[rank][row] if explain else None)
                for rank, index in enumerate(order[row].tolist())
            ]
            for row in range(len(pixels))
        ]

    @torch.inference_mode()
    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (N, classes), of pixels that the transform has returned."""
        parts = [self.network(self._input(batch)).float().cpu().numpy() for batch in batches_of(pixels)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    def _input(self, pixels: np.ndarray) -> Tensor:
        return normalise(torch.from_numpy(pixels).to(self.device), **self._normalisation)

    def _evidence(self, pixels: np.ndarray, classes: np.ndarray) -> list[Evidence]:
        from seesay.classification.class_maps import class_maps  # its import of captum takes a second

        maps = [
            class_maps(self.network, self._input(part), torch.from_numpy(chosen).to(self.device)).maps
            for part, chosen in zip(batches_of(pixels), batches_of(classes), strict=True)
        ]
        found = np.concatenate(maps) if maps else np.zeros((0, 1, 1), np.float32)
        return [Evidence(weights, picture) for weights, picture in zip(found, pixels, strict=True)]

    def _prediction(self, index: int, score: float, evidence: Evidence | None) -> Prediction:
        return Prediction(self.classes[index].label, self.classes[index].wnid, float(score), evidence)


class Autoencoder(Predictor):
    """A trained autoencoder: from images to their reconstructions."""

    def __init__(self, bundle: Bundle, *, device: str = "auto") -> None:
        from seesay.autoencoding.networks.registry import restore_autoencoder

        super().__init__(bundle, device)
        checkpoint = bundle.checkpoint()
        self.transform = self._labelled_images_transform()
        self.network = on_device(restore_autoencoder(checkpoint), self.device)
        self._normalisation = checkpoint.normalisation

    @overload
    def __call__(self, images: ImageLike) -> Image.Image: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Images) -> list[Image.Image]: ...
    def __call__(self, images: Any) -> Any:
        """Return the reconstruction, of the size that it was trained on, of one image or of each in a list."""
        return one_or_list(images, lambda one: self.predict(self.transform.batch(one)))

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> list[Image.Image]:
        """Return the same for pixels that the transform has returned, uint8 (N, S, S, 3)."""
        pictures: list[Image.Image] = []
        for batch in batches_of(pixels):
            outputs = self.network(normalise(torch.from_numpy(batch).to(self.device), **self._normalisation))
            values = (outputs.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
            pictures += [Image.fromarray(picture) for picture in values.cpu().numpy()]
        return pictures
