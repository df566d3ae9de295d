"""Settings of the experiments on images: classifiers, autoencoders."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seesay.params.augmentation import Augmentation
from seesay.params.reading import (
    AsTuple,
    CellName,
    NaturalInt,
    PositiveFloat,
    Settings,
)
from seesay.params.training import Training

NONE = "none"
"""What a cell says that starts from nothing, or builds on no other."""


ENSEMBLE = "ensemble"
PRETRAINED = "pretrained"
"""Architectures that need something beside images: other classifiers; published weights."""


class Architecture(BaseModel):
    """A network's name and its constructor's own arguments, which `seesay.models` checks against its signature."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Distillation(Settings):
    """How a classifier learns from the one it is built on (Hinton et al., 2015).

    The loss is (1 - `weight`) times the labels' cross-entropy plus `weight` times the cross-entropy with the teacher's
    probabilities, both networks' logits divided by `temperature`, times its square.
    """

    weight: Annotated[float, Field(gt=0.0, le=1.0)]
    temperature: PositiveFloat


class ProgressiveResizing(Settings):
    """Images grow during training: from `start_size` pixels a side, evenly, to full size after the share `until` of
    the epochs (Howard, 2018); sizes are multiples of 8."""

    start_size: Annotated[int, Field(ge=8, multiple_of=8)]
    until: Annotated[float, Field(gt=0.0, lt=1.0)]


class Classifier(Settings):
    """`initial_weights` names an entry of `encoders`, `built_on` another classifier: its teacher where `distillation`
    says how to learn from it, its members where the architecture is `ensemble`; `none` is neither. A cell is trained
    once for each of `seeds` (absent: the project's one); the first is the one that is evaluated and released.

    An ensemble is not trained, any other needs `augmentation` and `training`. `layer_decay`: each block of a pretrained
    network learns at this times the rate of the one after it.
    """

    dataset: CellName
    architecture: Architecture
    initial_weights: CellName
    built_on: CellName
    augmentation: Augmentation | None = None
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    training: Training | None = None
    distillation: Distillation | None = None
    progressive_resizing: ProgressiveResizing | None = None
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    seeds: Annotated[tuple[NaturalInt, ...], AsTuple, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Classifier:
        kind, needs = self.architecture.name, {PRETRAINED: "initial_weights", ENSEMBLE: "built_on"}
        if kind in needs and getattr(self, needs[kind]) == NONE:
            raise ValueError(f"{needs[kind]}: got {NONE}: architecture {kind} needs one")
        if kind != PRETRAINED and self.initial_weights != NONE:
            raise ValueError(f"initial_weights: got {self.initial_weights}: expected {NONE} for architecture {kind}")
        if kind != PRETRAINED and self.layer_decay is not None:
            raise ValueError(f"layer_decay: got {self.layer_decay}: expected none for architecture {kind}")
        is_used = kind == ENSEMBLE or self.distillation is not None
        if is_used != (self.built_on != NONE):
            expected = "a classifier" if is_used else f"{NONE}, or distillation"
            raise ValueError(f"built_on: got {self.built_on}: expected {expected}")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: got {list(self.seeds)}: expected each once")
        for name in ("augmentation", "training"):
            if (getattr(self, name) is None) != (kind == ENSEMBLE):
                raise ValueError(f"{name}: expected with every architecture but {ENSEMBLE}, which is not trained")
        if kind == ENSEMBLE and self.seeds is not None:
            raise ValueError("seeds: an ensemble is not trained; its members have seeds")
        return self


class Autoencoder(Settings):
    dataset: CellName
    architecture: Architecture
    augmentation: Augmentation
    training: Training

    @model_validator(mode="after")
    def _images_are_not_mixed(self) -> Autoencoder:
        if self.augmentation.mixing is not None:
            raise ValueError("augmentation.mixing: expected none: an autoencoder has no labels to mix")
        return self
