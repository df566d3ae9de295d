"""Features of the images of several datasets, gathered into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seesay.captioning.features.store import Features
from seesay.core.errors import InputError

MAX_SCALE_VECTORS = 60_000
"""Most vectors that a feature scale is fitted on: 49 positions of 6,000 images would be three gigabytes in float64."""


class CombinedFeatures:
    """A captioner's features of the images of one or more datasets, by (dataset, row).

    The arrays, float16 (N, D) or (N, L, D), are usually memory maps and may be larger than memory.
    """

    def __init__(self, features: Sequence[Features], kind: Literal["pooled", "grid"]) -> None:
        """Raise `InputError` if `kind` is "grid" and one of `features` has none."""
        self._features = list(features)
        self._arrays = [dataset_features.array(kind) for dataset_features in features]
        assert len({array.shape[1:] for array in self._arrays}) == 1, "see require_compatible"

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return float32 (N, ...) on the CPU: row `rows[i]` of dataset `datasets[i]`.

        Each row is read once, in the order in which rows are stored, even if it is wanted twice.
        """
        gathered = torch.empty((len(rows), *self._arrays[0].shape[1:]), dtype=torch.float32)
        for dataset, array in enumerate(self._arrays):
            positions = np.flatnonzero(datasets == dataset)
            if len(positions):
                unique_rows, inverse = np.unique(rows[positions], return_inverse=True)
                values = torch.from_numpy(array[unique_rows])[torch.from_numpy(inverse)].float()
                if len(positions) == len(rows):
                    return values
                gathered[torch.from_numpy(positions)] = values
        return gathered

    def sample_views(self, datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Return rows to `gather` in place of `rows`: for each image its own row or a random one of its views."""
        sampled = rows.copy()
        for dataset, features in enumerate(self._features):
            positions = np.flatnonzero(datasets == dataset)
            sampled[positions] = features.sample_views(rows[positions], generator=generator)
        return sampled

    def sample_vectors(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return feature vectors of these images, float32 (M, D), to fit a scale on; each grid position is a vector.

        Repeated images count once. Of more than `MAX_SCALE_VECTORS` vectors, evenly spaced images are taken.
        """
        examples = np.unique(np.stack([datasets, rows]), axis=1)
        vectors_per_image = int(np.prod(self._arrays[0].shape[1:-1]))
        step = -(-examples.shape[1] * vectors_per_image // MAX_SCALE_VECTORS)
        return self.gather(examples[0, ::step], examples[1, ::step]).flatten(0, -2)


class CaptionerInputs:
    """What a trained captioner reads of the images of its dataset, by row: its `inputs` in `features`.

    `features` are those that its experiment names, in that order.
    """

    def __init__(self, inputs: Sequence[tuple[int, Literal["pooled", "grid"]]], features: Sequence[Features]) -> None:
        """Raise `InputError` if a grid is read of features without one."""
        self._arrays = [features[position].array(kind) for position, kind in inputs]

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return float16 (N, ...): one input as it is, several flat and side by side (N, F)."""
        parts = [np.asarray(array[rows]) for array in self._arrays]
        return parts[0] if len(parts) == 1 else np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=1)

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return `rows`, float32 on the CPU; there is one dataset."""
        return torch.from_numpy(self.rows(rows)).float()

    def sample_views(self, datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Return `rows`: these inputs are not for training."""
        return rows


def require_compatible(names: Sequence[str], features: Sequence[Features]) -> None:
    """Raise `InputError`, naming two sets of features, if one captioner cannot use both."""
    first = _requirements(features[0])
    for name, other in zip(names[1:], features[1:], strict=True):
        where = f"features {names[0]} and {name}: one captioner is to use both"
        for aspect, value in _requirements(other).items():
            if value != first[aspect]:
                raise InputError(f"{where}, but their {aspect} differ: {first[aspect]} and {value}")
        if other.index.num_components is not None:
            raise InputError(
                f"{where}, but each is projected on its own principal components; expected no num_components"
            )


def _requirements(features: Features) -> dict[str, object]:
    """Return all that must be equal in features for one captioner."""
    index = features.index
    return {
        "encoders": f"{index.encoder}, {index.architecture}",
        "weights": [file.sha256[:12] for file in index.weights.files],
        "transforms": dict(index.transform),
        "sizes": [features.pooled.shape[1:], None if features.grid is None else features.grid.shape[1:]],
        "num_components": index.num_components,
    }
