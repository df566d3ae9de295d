"""Settings for training: what it starts from, augmentation of images, optimizers, schedules, and the runtime.

A reference from one entry of params.yaml to another is made of section and name: `classifiers/resnet9`. The same text
is a path below models/, so that dvc.yaml needs one key and one dependency for a reference to any of several sections.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from seesay.core.settings import AsTuple, Fraction, NaturalInt, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

SCRATCH = "scratch"
"""The `start` of an experiment that starts from random weights."""

WEIGHTS, CLASSIFIERS, CAPTIONERS, FINETUNED = "weights", "classifiers", "captioners", "finetuned"
"""Sections of params.yaml to whose entries a reference may point."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _one_of(*kinds: str) -> Callable[[str], str]:
    """Return a validator of references to the sections `kinds`; `scratch` in it allows a start without a reference."""
    shown = [kind if kind == SCRATCH else f"{kind}/<name>" for kind in kinds]
    expected = " or ".join([", ".join(shown[:-1]), shown[-1]])

    def check(value: str) -> str:
        section, slash, name = value.partition("/")
        if section in kinds and (not slash if section == SCRATCH else _NAME.fullmatch(name)):
            return value
        hint = f": none is now {SCRATCH}" if value == "none" and SCRATCH in kinds else ""
        raise ValueError(f"got {value!r}: expected {expected}{hint}")

    return check


ClassifierStart = Annotated[str, AfterValidator(_one_of(SCRATCH, WEIGHTS, CLASSIFIERS))]
AutoencoderStart = Annotated[str, AfterValidator(_one_of(SCRATCH, CLASSIFIERS))]
CaptionerStart = Annotated[str, AfterValidator(_one_of(SCRATCH, CAPTIONERS))]
FeatureEncoder = Annotated[str, AfterValidator(_one_of(WEIGHTS, CLASSIFIERS, FINETUNED))]
TrainableEncoder = Annotated[str, AfterValidator(_one_of(WEIGHTS, CLASSIFIERS))]


def name_in(section: str, reference: str) -> str | None:
    """Return the name of the entry of `section` that `reference` points to; None if it points elsewhere or nowhere."""
    kind, _, name = reference.partition("/")
    return name if kind == section and name else None


Area = Annotated[float, Field(gt=0.0, le=1.0)]


class ResizedCrop(Settings):
    """A random crop, resized to the full image size.

    It covers a fraction `min_area` to `max_area` of the image's area. Its aspect ratio lies between 1 / `max_aspect`
    and `max_aspect`.
    """

    min_area: Area
    max_area: Area
    max_aspect: Annotated[float, Field(ge=1.0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _areas_are_in_order(self) -> ResizedCrop:
        if self.min_area > self.max_area:
            raise ValueError(f"min_area: got {self.min_area}: expected at most max_area, {self.max_area}")
        return self


class Affine(Settings):
    """The largest affine change of an image in either direction.

    `rotation` and `shear` are in degrees, and `translation` is a fraction of the image's side. A `zoom` of z magnifies
    by 1 - z to 1 + z.
    """

    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    translation: Fraction = 0.0
    shear: Annotated[float, Field(ge=0.0, lt=90.0)] = 0.0
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class ColourJitter(Settings):
    """Random changes of colour. A setting x gives factors between 1 - x and 1 + x; a factor of 1 changes nothing."""

    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0


class Mixing(Settings):
    """Mixup and CutMix.

    A fraction `probability` of the images is mixed with another image of the batch, and so are their labels. An
    image's own weight in the mixture is drawn from Beta(alpha, alpha). A method without its alpha is off. If both are
    on, each image uses one of them.
    """

    mixup_alpha: NonNegativeFloat = 0.0
    cutmix_alpha: NonNegativeFloat = 0.0
    probability: Annotated[float, Field(gt=0.0, le=1.0)]

    @model_validator(mode="after")
    def _one_kind_is_on(self) -> Mixing:
        if not self.mixup_alpha and not self.cutmix_alpha:
            raise ValueError("mixup_alpha and cutmix_alpha: both are off: expected one above 0, or no mixing at all")
        return self


class Augmentation(Settings):
    """Random changes of training images.

    `cutout` is the side of the grey square, as a fraction of the image's side. With `flip: alternating`, half of the
    images are mirrored in the first epoch, and in each later epoch those that were not in the one before (Jordan,
    2024).
    """

    flip: bool | Literal["alternating"] = False
    crop_padding: NaturalInt = 0
    cutout: Fraction = 0.0
    resized_crop: ResizedCrop | None = None
    affine: Affine | None = None
    colour_jitter: ColourJitter | None = None
    trivial_augment: bool = False
    mixing: Mixing | None = None

    @model_validator(mode="after")
    def _one_kind_of_crop(self) -> Augmentation:
        if self.resized_crop is not None and self.crop_padding:
            raise ValueError(f"crop_padding: got {self.crop_padding}: expected 0 beside resized_crop")
        return self


Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Runtime(Settings):
    """Device, precision, threads and processes of computations. `auto` depends on the machine; see `seesay.compute`.

    `processes` share each training, extraction and evaluation (`seesay.ranks`), on one machine; `num_threads` is of
    each. With `sync_batch_norm` batch norms see the batch of all of them (on GPUs). A split of images is held in memory
    where it takes at most `memory_share` of it, and read from its file otherwise; results do not depend on that.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    precision: Literal["auto", "float32", "bfloat16"]
    num_threads: Literal["auto"] | PositiveInt
    deterministic: bool
    compile: bool
    processes: PositiveInt = 1
    sync_batch_norm: bool = False
    memory_share: Fraction = 0.25

    def in_float32(self) -> Runtime:
        """Return a copy in float32, for stages that measure instead of train: autocast would distort measurements."""
        return self.model_copy(update={"precision": "float32"})


class Lookahead(Settings):
    """Slow weights that move a share `pull` of the way to the fast ones, and reset them, every `every_steps` steps.

    Zhang et al., 2019.
    """

    pull: Annotated[float, Field(gt=0.0, le=1.0)]
    every_steps: PositiveInt


class _AnyOptimizer(Settings):
    """Settings of every optimizer: `norm_bias_rate` is a factor on the learning rate of batch norms' biases."""

    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0
    norm_bias_rate: PositiveFloat = 1.0
    lookahead: Lookahead | None = None


class Sgd(_AnyOptimizer):
    name: Literal["sgd"]
    momentum: Decay = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0, got 0.0")
        return self


class AdamW(_AnyOptimizer):
    name: Literal["adamw"]
    beta1: Decay
    beta2: Decay


class Muon(_AnyOptimizer):
    """Orthogonalised momentum for matrices and convolutions (Jordan, 2024); NAdamW for everything else.

    Updates are scaled to the size of AdamW's, so learning rates are those of AdamW too.
    """

    name: Literal["muon"]
    momentum: Decay


Optimizer = Annotated[Sgd | AdamW | Muon, Field(discriminator="name")]


class Schedule(Settings):
    """The learning rate schedule: linear warm-up over `warmup_fraction` of all steps, then `decay` towards zero.

    `one_cycle` warms up along a cosine too, from 1/25 of the peak (Smith and Topin, 2018). `step` multiplies the rate
    by `factor` at each of `milestones`, which are fractions of all steps.
    """

    decay: Literal["constant", "linear", "cosine", "one_cycle", "step"]
    warmup_fraction: Fraction = 0.0
    milestones: Annotated[tuple[Fraction, ...], AsTuple] = ()
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None

    @model_validator(mode="after")
    def _steps_have_milestones(self) -> Schedule:
        if (self.decay == "step") != bool(self.milestones) or (self.decay == "step") != (self.factor is not None):
            raise ValueError("milestones and factor: expected with decay step, and only there")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: got {list(self.milestones)}: expected rising shares of all steps")
        return self


class MovingAverage(Settings):
    """Exponential moving average of the weights, updated with `decay` every `every_steps` optimizer steps."""

    decay: Decay
    every_steps: PositiveInt


class Training(Settings):
    """Settings for training a network.

    With `moving_average`, averaged weights are evaluated and kept. Gradients are clipped to `max_gradient_norm`.
    Training stops after `patience` epochs without improvement. With `sharpness_radius`, gradients are those at the
    weights with about the highest loss within this distance (sharpness-aware minimisation, Foret et al., 2021), which
    doubles the cost of a step. Each of these four is off if absent. One optimizer step uses `accumulate_batches`
    batches, which has the effect of a large batch in the memory of a small one.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Optimizer
    schedule: Schedule
    moving_average: MovingAverage | None = None
    max_gradient_norm: PositiveFloat | None = None
    patience: PositiveInt | None = None
    sharpness_radius: PositiveFloat | None = None
    accumulate_batches: PositiveInt = 1

    @model_validator(mode="after")
    def _sharpness_is_of_one_batch(self) -> Training:
        if self.sharpness_radius is not None and self.accumulate_batches > 1:
            raise ValueError(
                f"accumulate_batches: got {self.accumulate_batches}: expected 1 with sharpness_radius, whose steps see "
                "one batch twice"
            )
        return self
