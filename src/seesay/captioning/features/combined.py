"""Batches of features from several datasets' images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seesay.captioning.features.store import Features
from seesay.core.errors import InputError

MAX_MEASURED = 60_000
"""Vectors a scale is measured on: 49 places of 6,000 images would be three gigabytes in float64."""


class JoinedFeatures:
    """What captioners see of the images of one or more datasets, by (dataset, row).

    The arrays, float16 (N, D) or (N, L, D), usually lie on disk as memory maps and may be larger than memory.
    """

    def __init__(self, features: Sequence[Features], looks_at: Literal["pooled", "grid"]) -> None:
        """Raises `InputError` where `looks_at` is "grid" and one has none."""
        self._features = list(features)
        self._arrays = [one.seen(looks_at) for one in features]
        assert len({array.shape[1:] for array in self._arrays}) == 1, "see require_alike"

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Float32 (N, ...) on the CPU: row `rows[i]` of dataset `datasets[i]`.

        An image wanted twice is read once, and images are read in the order in which they lie.
        """
        gathered = torch.empty((len(rows), *self._arrays[0].shape[1:]), dtype=torch.float32)
        for dataset, array in enumerate(self._arrays):
            places = np.flatnonzero(datasets == dataset)
            if len(places):
                wanted, inverse = np.unique(rows[places], return_inverse=True)
                read = torch.from_numpy(array[wanted])[torch.from_numpy(inverse)].float()
                if len(places) == len(rows):
                    return read
                gathered[torch.from_numpy(places)] = read
        return gathered

    def vary(self, datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """For each image its own row or that of one of its views, by chance: other rows to `gather` in their place."""
        varied = rows.copy()
        for dataset, features in enumerate(self._features):
            places = np.flatnonzero(datasets == dataset)
            varied[places] = features.vary(rows[places], generator=generator)
        return varied

    def measured(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Float32 (M, D): what these images show, to measure a scale on; of a grid each place counts.

        Images that come up twice count once. Of very many an even choice stands for all.
        """
        examples = np.unique(np.stack([datasets, rows]), axis=1)
        places = int(np.prod(self._arrays[0].shape[1:-1]))
        step = -(-examples.shape[1] * places // MAX_MEASURED)
        return self.gather(examples[0, ::step], examples[1, ::step]).flatten(0, -2)


def require_alike(names: Sequence[str], features: Sequence[Features]) -> None:
    """Raises `InputError` naming two cells of features that one captioner cannot look at both."""
    ours = _what_counts(features[0])
    for name, other in zip(names[1:], features[1:], strict=True):
        where = f"features {names[0]} and {name}: one captioner is to look at both"
        for what, theirs in _what_counts(other).items():
            if theirs != ours[what]:
                raise InputError(f"{where}, but their {what} differ: {ours[what]} and {theirs}")
        if other.index.num_components is not None:
            raise InputError(f"{where}, but each is projected on components of its own; expected no num_components")


def _what_counts(features: Features) -> dict[str, object]:
    index = features.index
    return {
        "encoders": f"{index.encoder}, {index.architecture}",
        "weights": [file.sha256[:12] for file in index.weights.files],
        "transforms": dict(index.transform),
        "sizes": [features.pooled.shape[1:], None if features.grid is None else features.grid.shape[1:]],
        "num_components": index.num_components,
    }
