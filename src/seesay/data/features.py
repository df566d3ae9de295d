"""Where an encoder's cached features of a caption dataset lie, and which images, weights and sizes made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seesay.data.caption_records import CaptionRecords
from seesay.data.sources import SourceNote, read_source
from seesay.errors import InputError
from seesay.files import atomic_directory, read_array, read_json, write_array, write_json
from seesay.params import datasets

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FeaturesIndex:
    """What made the features.

    `transform` is {"resize_size", "image_size", "mean", "std"}: pixels of the shorter side and of the centre crop, and
    the channels' normalisation. `image_ids` has one entry a row.
    """

    encoder: str
    architecture: str
    weights: SourceNote
    transform: Mapping[str, Any]
    dataset: str
    dataset_digest: str
    shape: tuple[int, int]
    image_ids: tuple[int, ...]


@dataclass(frozen=True)
class Features:
    """`pooled`: float16 (N, D), read-only memory map; row r is image r of the dataset's records."""

    pooled: np.ndarray
    index: FeaturesIndex

    def __len__(self) -> int:
        return len(self.pooled)

    @property
    def num_dimensions(self) -> int:
        return int(self.pooled.shape[1])

    def report(self) -> dict[str, Any]:
        """For the data report: everything but the rows."""
        content = _to_json(self.index)
        del content["image_ids"], content["shape"], content["schema_version"]
        content["source"] = content.pop("weights")
        content["substitutes"] = list(self.index.weights.substitutes)
        content["trained"] = bool(self.index.weights.files)  # an encoder without a weights file has fixed filters
        return {**content, "num_images": len(self), "num_dimensions": self.num_dimensions}


def write_features(
    folder: Path,
    pooled: np.ndarray,
    captions: CaptionRecords,
    settings: datasets.Features,
    weights_folder: Path,
    *,
    architecture: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Features:
    """Writes `pooled` (N, D), one row per record, as float16 with its index; both files appear or neither.

    `weights_folder` is the encoder's raw folder, whose `source.json` names the weights file. Raises `InputError` for
    values that are not finite or too large for float16.
    """
    assert pooled.ndim == 2, pooled.shape
    assert len(pooled) == len(captions), (len(pooled), len(captions))
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(pooled, dtype=np.float16)
    bad = np.flatnonzero(~np.isfinite(halves).all(axis=1))
    if len(bad):
        names = ", ".join(captions.records[row].file_name for row in bad[:5])
        raise InputError(
            f"encoder {settings.encoder}: features of {len(bad)} images are not finite in float16: {names}"
        )
    index = FeaturesIndex(
        encoder=settings.encoder,
        architecture=architecture,
        weights=read_source(weights_folder),
        transform={
            "resize_size": settings.resize_size,
            "image_size": settings.image_size,
            "mean": [round(float(value), 6) for value in mean],  # float32 buffers
            "std": [round(float(value), 6) for value in std],
        },
        dataset=captions.name,
        dataset_digest=captions.digest,
        shape=(int(pooled.shape[0]), int(pooled.shape[1])),
        image_ids=tuple(record.image_id for record in captions.records),
    )
    with atomic_directory(folder) as temporary:
        write_array(temporary / "pooled.npy", halves)
        write_json(temporary / "index.json", _to_json(index))
    return read_features(folder, captions)


def read_features(folder: Path, captions: CaptionRecords) -> Features:
    """The features of this dataset; raises `InputError` where files are missing, damaged or of another dataset."""
    index = _from_json(read_json(folder / "index.json"), folder / "index.json")
    advice = "run extract_features again"
    if (index.dataset, index.dataset_digest) != (captions.name, captions.digest):
        raise InputError(
            f"{folder}: these are features of {index.dataset} {index.dataset_digest[:12]}, "
            f"not of {captions.name} {captions.digest[:12]}; {advice}"
        )
    if index.image_ids != tuple(record.image_id for record in captions.records):
        raise InputError(f"{folder / 'index.json'}: its image ids are not the dataset's; {advice}")
    pooled = read_array(folder / "pooled.npy", mmap=True)
    if pooled.dtype != np.float16 or pooled.shape != index.shape or len(pooled) != len(captions):
        raise InputError(
            f"{folder / 'pooled.npy'}: got {pooled.dtype} {pooled.shape}: "
            f"expected float16 {(len(captions), index.shape[1])}; {advice}"
        )
    return Features(pooled, index)


def _to_json(index: FeaturesIndex) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "encoder": index.encoder,
        "architecture": index.architecture,
        "weights": index.weights.to_json(),
        "transform": dict(index.transform),
        "dataset": index.dataset,
        "dataset_digest": index.dataset_digest,
        "shape": list(index.shape),
        "image_ids": list(index.image_ids),
    }


def _from_json(content: Any, path: Path) -> FeaturesIndex:
    kinds = {
        "schema_version": int,
        "encoder": str,
        "architecture": str,
        "weights": dict,
        "transform": dict,
        "dataset": str,
        "dataset_digest": str,
        "shape": list,
        "image_ids": list,
    }
    for key, kind in kinds.items():
        if not isinstance(content, Mapping) or not isinstance(content.get(key), kind):
            raise InputError(f"{path}: {key}: missing or not a {kind.__name__}; run extract_features again")
    if content["schema_version"] != SCHEMA_VERSION or len(content["shape"]) != 2:
        raise InputError(
            f"{path}: expected schema_version {SCHEMA_VERSION} and a shape of two; run extract_features again"
        )
    return FeaturesIndex(
        encoder=content["encoder"],
        architecture=content["architecture"],
        weights=SourceNote.from_json(content["weights"], where=path),
        transform=content["transform"],
        dataset=content["dataset"],
        dataset_digest=content["dataset_digest"],
        shape=(content["shape"][0], content["shape"][1]),
        image_ids=tuple(content["image_ids"]),
    )
