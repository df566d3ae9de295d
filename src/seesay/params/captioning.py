"""Settings of captioners: their training and their decoding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seesay.core.settings import CellName, NaturalInt, NonNegativeFloat, OneOrTwo, PositiveFloat, PositiveInt, Settings
from seesay.params.classification import Architecture
from seesay.params.references import CAPTIONERS, SCRATCH, CaptionerStart, TrainableEncoder, name_in
from seesay.params.training import Training


class Greedy(Settings):
    """At each position the likeliest token."""

    method: Literal["greedy"]
    max_length: PositiveInt
    batch_size: PositiveInt


class Beam(Settings):
    """`length_penalty` a divides a caption's log-probability by its length, <eos> included, to the power a."""

    method: Literal["beam"]
    beam_size: PositiveInt
    length_penalty: NonNegativeFloat
    max_length: PositiveInt
    batch_size: PositiveInt


class DiverseBeam(Settings):
    """`num_groups` beams that avoid each other's words (Vijayakumar et al., 2018): a token costs `diversity_penalty`
    for each time that an earlier group has chosen it at the same position."""

    method: Literal["diverse_beam"]
    beam_size: PositiveInt
    num_groups: Annotated[int, Field(ge=2)]
    diversity_penalty: NonNegativeFloat
    length_penalty: NonNegativeFloat
    max_length: PositiveInt
    batch_size: PositiveInt

    @model_validator(mode="after")
    def _groups_are_equal(self) -> DiverseBeam:
        if self.beam_size % self.num_groups:
            raise ValueError(f"num_groups: got {self.num_groups}: expected a divisor of beam_size {self.beam_size}")
        return self


class Nucleus(Settings):
    """`num_samples` captions drawn from the likeliest tokens that hold `top_p` of the probability (Holtzman et al.,
    2020), logits divided by `temperature`; the caption is the likeliest of them."""

    method: Literal["nucleus"]
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]
    temperature: PositiveFloat
    num_samples: PositiveInt
    max_length: PositiveInt
    batch_size: PositiveInt


Decoding = Annotated[Greedy | Beam | DiverseBeam | Nucleus, Field(discriminator="method")]


class ScheduledSampling(Settings):
    """A share of input words that are the captioner's own instead of a person's (Bengio et al., 2015): it rises
    evenly from 0 in the first epoch to `max_share` in the last."""

    max_share: Annotated[float, Field(gt=0.0, le=1.0)]


class SelfCritical(Settings):
    """Learning by reward (Rennie et al., 2017): `num_samples` captions are drawn an image, and each is made likelier by
    how much its CIDEr-D against the image's training captions exceeds the mean of the image's other samples."""

    num_samples: Annotated[int, Field(ge=2)]


class CaptionerTraining(Settings):
    """The training of a captioner; changing it trains anew.

    It learns from one of `datasets` or from two, and is validated and tested on the first; `features` has an entry for
    each, in the same order. `start` is `scratch`, or `captioners/<name>`, whose weights it starts from. With
    `self_critical` it learns by reward, and from images, not captions: `training.batch_size` counts images then, and
    `label_smoothing` is not used. The best epoch is that of the lowest val loss or of the highest CIDEr-D of greedily
    decoded val captions, as `best_by` says.
    """

    datasets: OneOrTwo
    vocabulary: CellName
    features: OneOrTwo
    start: CaptionerStart
    architecture: Architecture
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    max_caption_length: Annotated[int, Field(ge=3)]
    best_by: Literal["loss", "cider_d"]
    training: Training
    scheduled_sampling: ScheduledSampling | None = None
    self_critical: SelfCritical | None = None

    @property
    def parent(self) -> str | None:
        """The captioner whose weights it starts from."""
        return name_in(CAPTIONERS, self.start)

    @model_validator(mode="after")
    def _parts_fit(self) -> CaptionerTraining:
        if len(self.features) != len(self.datasets):
            expected = f"one for each of datasets, {', '.join(self.datasets)}"
            raise ValueError(f"features: got {', '.join(self.features)}: expected {expected}")
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets: got {', '.join(self.datasets)}: expected two different ones")
        if self.self_critical is not None:
            if self.start == SCRATCH:
                raise ValueError(
                    f"start: got {SCRATCH}: expected captioners/<name> with self_critical: one that has learned from "
                    "captions"
                )
            if self.scheduled_sampling is not None:
                raise ValueError("scheduled_sampling: expected none with self_critical, which samples whole captions")
            if self.best_by != "cider_d":
                raise ValueError(f"best_by: got {self.best_by}: expected cider_d with self_critical, which raises loss")
        return self


class Captioner(Settings):
    """Two parts, so that a change of `decoding` captions the images again without training again."""

    learning: CaptionerTraining
    decoding: Decoding


class FinetunedEncoder(Settings):
    """A cell of `finetune_encoder`: the encoder of a captioner's features learns with that captioner, from pixels.

    It sees images as the features' entry says, and is taught the train captions of the captioner's first dataset by the
    captioner's own settings, but for `training`. `dataset` to `encoder` are the captioner's own: they name the files
    that the stage reads, which DVC cannot look up in another entry. The first `frozen_blocks` blocks keep their
    weights, the others learn at `encoder_rate` times the captioner's learning rate. `num_workers` processes decode the
    images.
    """

    captioner: CellName
    dataset: CellName
    vocabulary: CellName
    features: CellName
    encoder: TrainableEncoder
    frozen_blocks: NaturalInt = 0
    encoder_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    num_workers: NaturalInt
    training: Training
