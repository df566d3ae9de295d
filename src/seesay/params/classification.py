"""Settings for classifiers, and the architecture settings that all networks share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seesay.core.settings import AsTuple, CellName, NaturalInt, PositiveFloat, Settings
from seesay.params.training import CLASSIFIERS, SCRATCH, WEIGHTS, Augmentation, ClassifierStart, Training, name_in

ENSEMBLE = "ensemble"
PRETRAINED = "pretrained"
"""Architectures that need more than images: one needs other classifiers, the other published weights."""


class Architecture(BaseModel):
    """A network's name and the arguments of its constructor. `seesay.training.build` checks the arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Distillation(Settings):
    """Distillation from another classifier, the teacher (Hinton et al., 2015).

    The loss is a sum. Its first term is (1 - `weight`) times the cross-entropy with the labels. Its second term is
    `weight` times `temperature` squared times the cross-entropy with the teacher's probabilities, where both networks'
    logits are divided by `temperature`.
    """

    weight: Annotated[float, Field(gt=0.0, le=1.0)]
    temperature: PositiveFloat


class ProgressiveResizing(Settings):
    """Growth of the images during training (Howard, 2018).

    Their side grows linearly from `start_size` pixels to full size, which it reaches after a fraction `until` of the
    epochs. Sizes are multiples of 8.
    """

    start_size: Annotated[int, Field(ge=8, multiple_of=8)]
    until: Annotated[float, Field(gt=0.0, lt=1.0)]


class Classifier(Settings):
    """A classifier.

    It is trained once for each of `seeds`; if absent, once with the project's seed. The network of the first seed is
    evaluated and released.

    `start` is `scratch`, or the entry that the architecture or `distillation` needs. A `pretrained` network needs
    `weights/<name>`. An `ensemble` needs `classifiers/<name>`, and averages the networks of that classifier's seeds. A
    distilled network needs `classifiers/<name>` for its teacher, and itself starts from random weights.

    An ensemble is not trained. Every other architecture needs `training`. With `layer_decay`, the learning rate of each
    block of a pretrained network is `layer_decay` times that of the next block.

    For uneven classes there are `class_weights` and `sampler`, of which an entry has at most one. With the first, an
    image counts n / (k * n_c) times in the loss, where n_c of n images are of its class and there are k classes. With
    the second, an epoch has as many images as without it, and equally many of each class.
    """

    dataset: CellName
    architecture: Architecture
    start: ClassifierStart
    augmentation: Augmentation = Augmentation()
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    training: Training | None = None
    distillation: Distillation | None = None
    progressive_resizing: ProgressiveResizing | None = None
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    class_weights: Literal["balanced"] | None = None
    sampler: Literal["balanced"] | None = None
    seeds: Annotated[tuple[NaturalInt, ...], AsTuple, Field(min_length=1)] | None = None

    @property
    def weights(self) -> str | None:
        """The entry of `weights` that a pretrained network starts from; None for other networks."""
        return name_in(WEIGHTS, self.start)

    @property
    def parent(self) -> str | None:
        """The classifier that an ensemble averages or a distilled network learns from; None for other networks."""
        return name_in(CLASSIFIERS, self.start)

    @model_validator(mode="after")
    def _parts_fit(self) -> Classifier:
        kind = self.architecture.name
        self._check_start()
        if kind != PRETRAINED and self.layer_decay is not None:
            raise ValueError(f"layer_decay: got {self.layer_decay}: expected none for architecture {kind}")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: got {list(self.seeds)}: expected each once")
        if (self.training is None) != (kind == ENSEMBLE):
            raise ValueError(f"training: expected with every architecture but {ENSEMBLE}, which is not trained")
        if kind == ENSEMBLE and self.augmentation != Augmentation():
            raise ValueError(f"augmentation: expected none for architecture {ENSEMBLE}, which is not trained")
        if self.class_weights is not None and self.sampler is not None:
            raise ValueError("class_weights and sampler: expected one of them; each balances the classes by itself")
        if kind == ENSEMBLE and (self.class_weights or self.sampler) is not None:
            raise ValueError(f"class_weights and sampler: expected none for architecture {ENSEMBLE}")
        if kind == ENSEMBLE and self.seeds is not None:
            raise ValueError("seeds: an ensemble is not trained; its members have seeds")
        return self

    def _check_start(self) -> None:
        kind = self.architecture.name
        if kind == PRETRAINED and self.distillation is not None:
            raise ValueError(f"distillation: expected none for architecture {PRETRAINED}, which starts from weights")
        if kind == PRETRAINED:
            fits, expected = self.weights is not None, f"weights/<name> for architecture {PRETRAINED}"
        elif kind == ENSEMBLE:
            fits, expected = self.parent is not None, f"classifiers/<name> for architecture {ENSEMBLE}"
        elif self.distillation is not None:
            fits, expected = self.parent is not None, "classifiers/<name> with distillation"
        else:
            fits, expected = self.start == SCRATCH, f"{SCRATCH} for architecture {kind} without distillation"
        if not fits:
            raise ValueError(f"start: got {self.start}: expected {expected}")
