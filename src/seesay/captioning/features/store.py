"""Stored features of a caption dataset, with the images, weights and transforms that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from seesay.arrays import read_array
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.features.components import Components, fit_components, write_projected
from seesay.captioning.features.origin import Origin
from seesay.captioning.features.rows import link_array
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, atomic_path, file_digest, read_json, write_json
from seesay.core.settings import AsTuple, NaturalInt, PositiveInt, validate
from seesay.params import datasets
from seesay.sources.provenance import SourceNote

SCHEMA_VERSION = 3
KINDS = ("pooled", "grid")
_ADVICE = "run extract_features again"


@dataclass(frozen=True)
class FeaturesIndex:
    """The encoder, weights, transform and dataset that features come from.

    `encoder` is as params name it, such as `weights/mobilenet_v2`; `architecture` is its network's. `weights` is the
    note of the encoder's weights file; if it was trained here, `trained_on` is its training dataset as
    {"dataset", "digest"}. `transform` is {"resize_size", "image_size", "mean", "std"}: pixels of the shorter side and
    of the centre crop, and the normalisation of the channels. `shape` is the shape of the pooled features. `image_ids`
    has one entry per image. `digests` has the sha256 of each array by kind. `num_views` is the number of views of each
    image of the train split.
    """

    encoder: str
    architecture: str
    weights: SourceNote
    transform: Mapping[str, Any]
    dataset: str
    dataset_digest: str
    shape: tuple[int, int]
    image_ids: tuple[int, ...]
    trained_on: Mapping[str, str] | None = None
    num_components: int | None = None
    grid_shape: tuple[int, int, int] | None = None
    digests: Mapping[str, str] | None = None
    num_views: int = 0


@dataclass(frozen=True)
class Features:
    """Features as read-only float16 memory maps: `pooled` (R, D) and `grid` (R, L, D), or None.

    The L grid positions are in reading order. The first N rows are the images of the dataset's records. They are
    followed by views (`seesay.captioning.features.views`) of the images `viewed` (V,), which are rows of the train
    split: the first view of each, then the second view of each, and so on.
    """

    pooled: np.ndarray
    index: FeaturesIndex
    grid: np.ndarray | None = None
    viewed: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        """Return N, the number of images, not counting views."""
        return len(self.pooled) - self.index.num_views * len(self.viewed)

    @property
    def num_dimensions(self) -> int:
        """D, the same for both kinds."""
        return int(self.pooled.shape[1])

    def array(self, kind: Literal["pooled", "grid"]) -> np.ndarray:
        """Return the features of one kind; raise `InputError` for a grid if there is none."""
        assert kind in KINDS, kind
        if kind == "pooled":
            return self.pooled
        if self.grid is None:
            file = self.pooled.filename if isinstance(self.pooled, np.memmap) else None
            where = "these features" if file is None else Path(file).parent
            raise InputError(f"{where}: has no grid; a captioner with attention needs features with a grid_size")
        return self.grid

    def sample_views(self, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Return for each image of `rows` its own row or that of one of its views, all equally likely; int64 (N,)."""
        if not self.index.num_views:
            return rows
        position = np.full(len(self), -1, dtype=np.int64)  # of each image in `viewed`
        position[self.viewed] = np.arange(len(self.viewed))
        view = generator.integers(0, self.index.num_views + 1, len(rows))
        is_view = (view > 0) & (position[rows] >= 0)
        return np.where(is_view, len(self) + (view - 1) * len(self.viewed) + position[rows], rows)

    def report(self) -> dict[str, Any]:
        """Return the entries of the data report: everything but the features."""
        content = _to_json(self.index)
        for key in ("image_ids", "shape", "grid_shape", "schema_version"):
            del content[key]
        content["source"] = content.pop("weights")
        content["substitutes"] = list(self.index.weights.substitutes)
        content["trained"] = bool(self.index.weights.files)  # an encoder without a weights file has fixed filters
        if self.index.num_views:
            content["num_views"] = self.index.num_views
        num_places = None if self.index.grid_shape is None else self.index.grid_shape[1]
        return {**content, "num_images": len(self), "num_dimensions": self.num_dimensions, "num_places": num_places}


def write_features(
    folder: Path,
    arrays: Mapping[str, Path],
    captions: CaptionRecords,
    settings: datasets.Features,
    origin: Origin,
    normalisation: Mapping[str, Sequence[float]],
) -> tuple[Features, dict[str, float]]:
    """Write finished arrays and their index to `folder`; all files appear or none.

    `arrays` are float16 `.npy` files by kind, with one row per record and then the rows of the views. `normalisation`
    is the encoder's {"mean", "std"}. With `num_components` each kind is projected on its own principal components,
    which are written to `pca.npz`. Returns the features, and the metrics `<kind>/explained_variance`: the share of the
    train split's variance that the components explain.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    digests: dict[str, str] = {}
    components: dict[str, Components] = {}
    num_views = 0 if settings.views is None else settings.views.count
    num_rows = num_rows_with_views(captions, settings)
    with atomic_directory(folder) as temporary:
        for kind, source in arrays.items():
            target = temporary / f"{kind}.npy"
            array = read_array(source, mmap=True)
            assert array.dtype == np.float16, array.dtype
            assert len(array) == num_rows, (len(array), num_rows)
            if settings.num_components is None:
                link_array(source, target)
            else:
                components[kind] = fit_components(
                    array, captions.rows("train"), num_components=settings.num_components, name=f"{kind} features"
                )
                write_projected(array, components[kind], target)
            shapes[kind] = read_array(target, mmap=True).shape
            digests[kind] = file_digest(target)
        if components:
            _write_components(temporary / "pca.npz", components)
        index = FeaturesIndex(
            encoder=settings.encoder,
            architecture=origin.architecture,
            weights=origin.weights,
            transform={
                "resize_size": settings.resize_size,
                "image_size": settings.image_size,
                # Rounded, since the encoder's buffers are float32.
                **{name: [round(float(value), 6) for value in values] for name, values in normalisation.items()},
            },
            dataset=captions.name,
            dataset_digest=captions.digest,
            shape=shapes["pooled"],  # type: ignore[arg-type]
            image_ids=tuple(record.image_id for record in captions.records),
            trained_on=origin.trained_on,
            num_components=settings.num_components,
            grid_shape=shapes.get("grid"),  # type: ignore[arg-type]
            digests=digests,
            num_views=num_views,
        )
        write_json(temporary / "index.json", _to_json(index))
    explained = {f"{kind}/explained_variance": fitted.explained for kind, fitted in components.items()}
    return read_features(folder, captions), explained


def num_rows_with_views(captions: CaptionRecords, settings: datasets.Features) -> int:
    """Return the number of rows of features with these settings: one per image, and one per view."""
    count = 0 if settings.views is None else settings.views.count
    return len(captions) + count * len(captions.rows("train"))


def read_features(folder: Path, captions: CaptionRecords) -> Features:
    """Read the features of this dataset; raise `InputError` if files are missing, damaged or of another dataset."""
    index = read_index(folder)
    if (index.dataset, index.dataset_digest) != (captions.name, captions.digest):
        raise InputError(
            f"{folder}: these are features of {index.dataset} {index.dataset_digest[:12]}, "
            f"not of {captions.name} {captions.digest[:12]}; {_ADVICE}"
        )
    if index.image_ids != tuple(record.image_id for record in captions.records):
        raise InputError(f"{folder / 'index.json'}: its image ids are not the dataset's; {_ADVICE}")
    viewed = np.array(captions.rows("train") if index.num_views else [], dtype=np.int64)
    num_rows = len(captions) + index.num_views * len(viewed)
    pooled = _read_kind(folder, "pooled", (num_rows, index.shape[1]), index)
    grid = None
    if index.grid_shape is not None:
        grid = _read_kind(folder, "grid", (num_rows, *index.grid_shape[1:]), index)
    return Features(pooled, index, grid, viewed)


def read_index(folder: Path) -> FeaturesIndex:
    """Read what `index.json` in `folder` says; raise `InputError` if it is missing or damaged."""
    return _from_json(read_json(folder / "index.json"), folder / "index.json")


def _read_kind(folder: Path, kind: str, shape: tuple[int, ...], index: FeaturesIndex) -> np.ndarray:
    path = folder / f"{kind}.npy"
    try:
        array = read_array(path, mmap=True)
    except InputError as error:
        raise InputError(f"{error}; {_ADVICE}") from None
    if array.dtype != np.float16 or array.shape != shape:
        raise InputError(f"{path}: got {array.dtype} {array.shape}: expected float16 {shape}; {_ADVICE}")
    if not _is_finite(array):
        raise InputError(f"{path}: some values are not finite; {_ADVICE}")
    if file_digest(path) != (index.digests or {}).get(kind):
        raise InputError(f"{path}: its sha256 is not the one in its index; {_ADVICE}")
    return array


def _is_finite(array: np.ndarray, rows_at_a_time: int = 256) -> bool:
    exponent = 0x7C00  # of float16: all ones for infinities and NaN; much faster than np.isfinite on float16
    bits = array.view(np.uint16)
    blocks = (bits[start : start + rows_at_a_time] for start in range(0, len(bits), rows_at_a_time))
    return all(int((block & exponent).max(initial=0)) < exponent for block in blocks)


def _write_components(path: Path, components: Mapping[str, Components]) -> None:
    arrays: dict[str, Any] = {}
    for kind, fitted in components.items():
        arrays |= {f"{kind}_mean": fitted.mean, f"{kind}_axes": fitted.axes}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _to_json(index: FeaturesIndex) -> dict[str, Any]:
    views = {"num_views": index.num_views} if index.num_views else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "encoder": index.encoder,
        "architecture": index.architecture,
        "weights": index.weights.to_json(),
        "trained_on": None if index.trained_on is None else dict(index.trained_on),
        "transform": dict(index.transform),
        "num_components": index.num_components,
        "dataset": index.dataset,
        "dataset_digest": index.dataset_digest,
        "shape": list(index.shape),
        "grid_shape": None if index.grid_shape is None else list(index.grid_shape),
        "digests": dict(index.digests or {}),
        "image_ids": list(index.image_ids),
        **views,
    }


class _Transform(BaseModel):
    model_config = ConfigDict(strict=True)

    resize_size: PositiveInt
    image_size: PositiveInt
    mean: list[float]
    std: list[float]


class _Stored(BaseModel):
    """The content of `index.json`."""

    model_config = ConfigDict(strict=True)

    encoder: str
    architecture: str
    weights: dict[str, Any]
    transform: _Transform
    dataset: str
    dataset_digest: str
    shape: Annotated[tuple[NaturalInt, NaturalInt], AsTuple]
    image_ids: Annotated[tuple[int, ...], AsTuple]
    trained_on: dict[str, str] | None
    num_components: PositiveInt | None
    grid_shape: Annotated[tuple[NaturalInt, NaturalInt, NaturalInt] | None, AsTuple]
    digests: dict[str, str]
    num_views: NaturalInt = 0


def _from_json(content: Any, path: Path) -> FeaturesIndex:
    if not isinstance(content, Mapping) or content.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version: expected {SCHEMA_VERSION}; {_ADVICE}")
    try:
        stored: _Stored = validate(dict(content), _Stored, where=str(path))
    except InputError as error:
        raise InputError(f"{error}; {_ADVICE}") from None
    note = SourceNote.from_json(stored.weights, where=path)
    return FeaturesIndex(**{**dict(stored), "weights": note, "transform": stored.transform.model_dump()})
