"""Settings for evaluation, comparison, encoder maps, report, release and tracking."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from seesay.core.settings import AsTuple, CellName, Fraction, NaturalInt, PositiveInt, Settings


class Evaluation(Settings):
    """Settings for evaluation, which processes `batch_size` images at a time.

    `panel_images` examples are sampled with `panel_seed`. A classifier's confidence interval comes from
    `bootstrap_resamples` resamples drawn with `bootstrap_seed`. `test_time_flip` also measures the mean of the
    classifier's predictions for an image and its mirror image, and `test_time_shift` that of six views: these two, as
    they are and moved by so many pixels along both diagonals. Each has a key of its own.
    """

    batch_size: PositiveInt
    panel_images: PositiveInt
    panel_seed: NaturalInt
    bootstrap_resamples: PositiveInt
    bootstrap_seed: NaturalInt
    test_time_flip: bool = False
    test_time_shift: PositiveInt | None = None


class Published(Settings):
    """A published result; accuracies are fractions.

    A result on a dataset that none of this project's classifiers learns is shown as context. `num_parameters` places it
    in the figures of accuracy against size.
    """

    name: Annotated[str, Field(min_length=1)]
    dataset: CellName
    top1: Fraction
    top5: Fraction | None = None
    num_parameters: PositiveInt | None = None
    source: Annotated[str, Field(min_length=1)]


class Comparison(Settings):
    """Settings for comparing classifiers.

    Inference throughput is the median of `throughput_repeats` rounds at each of `throughput_batch_sizes`.
    `overfitting_study` names the classifiers whose training and validation accuracy are plotted side by side.
    `samples_per_class` training images of each class are sampled with `samples_seed`.
    """

    throughput_batch_sizes: Annotated[tuple[PositiveInt, ...], AsTuple, Field(min_length=1)]
    throughput_repeats: PositiveInt
    samples_per_class: PositiveInt
    samples_seed: NaturalInt
    overfitting_study: Annotated[tuple[CellName, ...], AsTuple] = ()
    published: Annotated[tuple[Published, ...], AsTuple] = ()


class Report(Settings):
    title: str
    note: str


class Release(Settings):
    """Experiments to register as `<prefix><kind>-<name>` once the gate has passed."""

    prefix: str
    classifiers: Annotated[tuple[CellName, ...], AsTuple] = ()
    captioners: Annotated[tuple[CellName, ...], AsTuple] = ()
    autoencoders: Annotated[tuple[CellName, ...], AsTuple] = ()


class Tracking(Settings):
    """Settings for MLflow. `experiment_prefix` keeps the experiments of different workspaces apart."""

    experiment_prefix: Annotated[str, Field(pattern=r"^[a-z0-9_-]*$")]


class EncoderMaps(Settings):
    """Settings for maps of an encoder's activations.

    `depths` select convolutions of the encoder: 0 is the first, 0.5 the middle and 1 the last. The panel shows
    `num_images` test images sampled with `seed`.
    """

    depths: Annotated[tuple[Fraction, ...], AsTuple, Field(min_length=1)]
    num_images: PositiveInt
    seed: NaturalInt

    @field_validator("depths")
    @classmethod
    def _in_order(cls, depths: tuple[float, ...]) -> tuple[float, ...]:
        if list(depths) != sorted(set(depths)):
            raise ValueError(f"got {list(depths)}: expected different depths, the smallest first")
        return depths
