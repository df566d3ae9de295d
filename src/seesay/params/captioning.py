"""Settings for captioners: training and decoding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seesay.core.settings import (
    AsNames,
    CellName,
    NaturalInt,
    NonNegativeFloat,
    OneOrTwo,
    PositiveFloat,
    PositiveInt,
    Settings,
)
from seesay.params.classification import ENSEMBLE, Architecture
from seesay.params.training import CAPTIONERS, SCRATCH, CaptionerStart, TrainableEncoder, Training, name_in


class Greedy(Settings):
    """Greedy decoding: the most probable token at each position."""

    method: Literal["greedy"]
    max_length: PositiveInt
    batch_size: PositiveInt


Rerank = Literal["consensus"]
"""Another ranking of the captions of an image: by each one's mean CIDEr-D against the others."""


class Beam(Settings):
    """Beam search.

    A caption's log-probability is divided by its length to the power `length_penalty`. The length includes <eos>.
    """

    method: Literal["beam"]
    beam_size: PositiveInt
    length_penalty: NonNegativeFloat
    max_length: PositiveInt
    batch_size: PositiveInt
    rerank: Rerank | None = None


class DiverseBeam(Settings):
    """Diverse beam search: `num_groups` beams that avoid each other's words (Vijayakumar et al., 2018).

    A token costs `diversity_penalty` for each time an earlier group has chosen it at the same position.
    """

    method: Literal["diverse_beam"]
    beam_size: PositiveInt
    num_groups: Annotated[int, Field(ge=2)]
    diversity_penalty: NonNegativeFloat
    length_penalty: NonNegativeFloat
    max_length: PositiveInt
    batch_size: PositiveInt
    rerank: Rerank | None = None

    @model_validator(mode="after")
    def _groups_are_equal(self) -> DiverseBeam:
        if self.beam_size % self.num_groups:
            raise ValueError(f"num_groups: got {self.num_groups}: expected a divisor of beam_size {self.beam_size}")
        return self


class Nucleus(Settings):
    """Nucleus sampling (Holtzman et al., 2020).

    Logits are divided by `temperature`. `num_samples` captions are sampled from the most probable tokens that hold
    `top_p` of the probability. The result is the most probable of these captions.
    """

    method: Literal["nucleus"]
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]
    temperature: PositiveFloat
    num_samples: PositiveInt
    max_length: PositiveInt
    batch_size: PositiveInt
    rerank: Rerank | None = None


Decoding = Annotated[Greedy | Beam | DiverseBeam | Nucleus, Field(discriminator="method")]


class ScheduledSampling(Settings):
    """Scheduled sampling (Bengio et al., 2015).

    A fraction of the input words comes from the captioner instead of the reference captions. This fraction rises
    linearly from 0 in the first epoch to `max_share` in the last.
    """

    max_share: Annotated[float, Field(gt=0.0, le=1.0)]


class SelfCritical(Settings):
    """Self-critical training, which learns from a reward (Rennie et al., 2017).

    `num_samples` captions are sampled for each image. A sample's reward is its CIDEr-D against the image's training
    captions, minus the mean CIDEr-D of the image's other samples. Training makes a sample more probable in proportion
    to its reward.
    """

    num_samples: Annotated[int, Field(ge=2)]


class CaptionerTraining(Settings):
    """Settings for training a captioner. Changing any of them trains it again.

    The captioner learns from one or two `datasets`, and is validated and tested on the first. `features` has an entry
    for each dataset, in the same order. `start` is `[scratch]`, or `[captioners/<name>]` to start from that captioner's
    weights. `best_by` selects the best epoch: the one with the lowest val loss, or with the highest CIDEr-D of greedily
    decoded val captions. `seed` takes the place of the project's seed, so that entries can differ in nothing else: the
    comparison then shows the mean and the spread over their seeds.

    An `ensemble` starts from two captioners of its dataset and vocabulary, or from ensembles of them, and averages the
    probabilities of all their networks at each word. It is not trained; every other architecture needs `training`. Its
    `features` are those of its members, one or two.

    With `self_critical`, the captioner learns from a reward, and from images instead of captions. Then
    `training.batch_size` counts images, and `label_smoothing` is not used.
    """

    datasets: OneOrTwo
    vocabulary: CellName
    features: OneOrTwo
    start: Annotated[tuple[CaptionerStart, ...], AsNames, Field(min_length=1, max_length=2)]
    architecture: Architecture
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    max_caption_length: Annotated[int, Field(ge=3)]
    best_by: Literal["loss", "cider_d"]
    training: Training | None = None
    seed: NaturalInt | None = None
    scheduled_sampling: ScheduledSampling | None = None
    self_critical: SelfCritical | None = None

    @property
    def is_ensemble(self) -> bool:
        return self.architecture.name == ENSEMBLE

    @property
    def parents(self) -> tuple[str, ...]:
        """The captioners that this one starts from or averages; none with `scratch`."""
        return tuple(name for one in self.start if (name := name_in(CAPTIONERS, one)) is not None)

    @property
    def dataset_of_features(self) -> dict[str, str]:
        """The dataset of each of `features`: that at the same position, or the only one of an ensemble."""
        datasets = self.datasets * len(self.features) if self.is_ensemble else self.datasets
        return dict(zip(self.features, datasets, strict=True))

    @model_validator(mode="after")
    def _ensembles_have_members(self) -> CaptionerTraining:
        shown = ", ".join(self.start)
        if self.is_ensemble and (len(self.parents) < 2 or len(set(self.parents)) < 2):
            raise ValueError(f"start: got {shown}: expected two different captioners for architecture {ENSEMBLE}")
        if not self.is_ensemble and len(self.start) > 1:
            raise ValueError(f"start: got {shown}: expected one for architecture {self.architecture.name}")
        if (self.training is None) != self.is_ensemble:
            raise ValueError(f"training: expected with every architecture but {ENSEMBLE}, which is not trained")
        for key in ("label_smoothing", "seed", "scheduled_sampling", "self_critical"):
            value = getattr(self, key)
            if self.is_ensemble and value is not None and (value or key == "seed"):
                raise ValueError(f"{key}: expected none for architecture {ENSEMBLE}, which is not trained")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> CaptionerTraining:
        if self.is_ensemble and len(self.datasets) > 1:
            raise ValueError(f"datasets: got {', '.join(self.datasets)}: expected one for architecture {ENSEMBLE}")
        if len(self.features) != len(self.datasets) and not self.is_ensemble:
            expected = f"one for each of datasets, {', '.join(self.datasets)}"
            raise ValueError(f"features: got {', '.join(self.features)}: expected {expected}")
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets: got {', '.join(self.datasets)}: expected two different ones")
        if self.self_critical is not None:
            if not self.parents:
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
    """A captioner. `decoding` is a separate part: a change of it captions the images again without another training."""

    learning: CaptionerTraining
    decoding: Decoding


class FinetunedEncoder(Settings):
    """An experiment of the stage `finetune_encoder`.

    The encoder of a captioner's features is trained together with that captioner, from pixels. Images are prepared as
    the features' entry says. The training data are the train captions of the captioner's first dataset. All settings
    but `training` are the captioner's.

    `dataset`, `vocabulary`, `features` and `encoder` repeat the captioner's settings. They name the files that the
    stage reads, which DVC cannot look up in another entry. The first `frozen_blocks` blocks keep their weights; the
    others learn at `encoder_rate` times the captioner's learning rate. `num_workers` processes decode the images.
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
