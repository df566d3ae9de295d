"""Trained classifiers and autoencoders as functions of images."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seesay.classification.networks.registry import restore_classifier
from seesay.images.augment.pipeline import normalise
from seesay.images.pixels import ImageLike
from seesay.serving.bundle import Bundle
from seesay.serving.predictor import (
    Evidence,
    Images,
    Prediction,
    Predictor,
    batches_of,
    on_device,
    one_or_list,
    require_positive,
)


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
