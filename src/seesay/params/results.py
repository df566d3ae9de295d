"""Settings of what is measured, shown and released."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seesay.params.reading import AsTuple, CellName, NaturalInt, PositiveInt, Settings


class Evaluation(Settings):
    """`batch_size` images at a time; `panel_images` examples are drawn with `panel_seed`."""

    batch_size: PositiveInt
    panel_images: PositiveInt
    panel_seed: NaturalInt


class Comparison(Settings):
    """How inference throughput is measured: the median of `repeats` passes over a batch."""

    throughput_batch_size: PositiveInt
    throughput_repeats: PositiveInt


class Report(Settings):
    title: str
    note: str


class Release(Settings):
    """Which cells are registered once the gate has passed; names in the registry are `<prefix><kind>-<cell>`."""

    prefix: str
    classifiers: Annotated[tuple[CellName, ...], AsTuple]
    captioners: Annotated[tuple[CellName, ...], AsTuple]
    autoencoders: Annotated[tuple[CellName, ...], AsTuple]


class Tracking(Settings):
    """`experiment_prefix` keeps one workspace's MLflow experiments apart from another's."""

    experiment_prefix: Annotated[str, Field(pattern=r"^[a-z0-9_-]*$")]
