"""Settings of the experiments: classifiers, autoencoders, captioners."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seesay.params.reading import CellName, Fraction, NaturalInt, NonNegativeFloat, PositiveInt, Settings
from seesay.params.training import Training


class Architecture(BaseModel):
    """A network's name and its constructor's own arguments, which `seesay.models` checks against its signature."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Augmentation(Settings):
    """What training images go through, per image at random. `cutout` is the square's side as a share of the image's."""

    flip: bool
    crop_padding: NaturalInt
    cutout: Fraction


class Classifier(Settings):
    dataset: CellName
    architecture: Architecture
    augmentation: Augmentation
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    training: Training


class Autoencoder(Settings):
    dataset: CellName
    architecture: Architecture
    augmentation: Augmentation
    training: Training


class Decoding(Settings):
    """How captions are searched for. `length_penalty` a divides a beam's log-probability by its length to the power
    a."""

    method: Literal["greedy", "beam"]
    beam_size: PositiveInt
    length_penalty: NonNegativeFloat
    max_length: PositiveInt
    batch_size: PositiveInt

    @model_validator(mode="after")
    def _greedy_has_one_beam(self) -> Decoding:
        if self.method == "greedy" and self.beam_size != 1:
            raise ValueError(f"method greedy has beam_size 1, got {self.beam_size}")
        return self


class CaptionerTraining(Settings):
    """What a captioner learns from and how; changing it trains anew."""

    dataset: CellName
    vocabulary: CellName
    features: CellName
    architecture: Architecture
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    max_caption_length: Annotated[int, Field(ge=3)]
    training: Training


class Captioner(Settings):
    """Two parts, so that a change of `decoding` captions the images again without training again."""

    learning: CaptionerTraining
    decoding: Decoding
