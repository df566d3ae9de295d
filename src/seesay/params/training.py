"""Settings of a training run, shared by the three tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seesay.core.settings import AsTuple, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Runtime(Settings):
    """Where and how numbers are computed. `auto` asks the machine; see `seesay.compute`."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    precision: Literal["auto", "float32", "bfloat16"]
    num_threads: Literal["auto"] | PositiveInt
    deterministic: bool
    compile: bool

    def in_float32(self) -> Runtime:
        """For stages that measure rather than train: autocast would blur what they measure."""
        return self.model_copy(update={"precision": "float32"})


class Sgd(Settings):
    name: Literal["sgd"]
    learning_rate: PositiveFloat
    momentum: Decay = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0, got 0.0")
        return self


class AdamW(Settings):
    name: Literal["adamw"]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0
    beta1: Decay
    beta2: Decay


Optimizer = Annotated[Sgd | AdamW, Field(discriminator="name")]


class Schedule(Settings):
    """The learning rate's course: linear warm-up over `warmup_fraction` of all steps, then `decay` towards zero.

    `one_cycle` also warms up along a cosine, from a 25th of the peak (Smith and Topin, 2018). `step` multiplies the
    rate by `factor` at each of `milestones`, which are shares of all steps.
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
    """Exponential moving average of the weights: `decay` applied every `every_steps` optimizer steps."""

    decay: Decay
    every_steps: PositiveInt


class Training(Settings):
    """A course of training.

    `moving_average` evaluates and keeps averaged weights, gradients are clipped to `max_gradient_norm`, training ends
    after `patience` epochs without a better one; each is off where it is absent. `accumulate_batches` batches make one
    optimizer step: what a large batch does, in the memory of a small one.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Optimizer
    schedule: Schedule
    moving_average: MovingAverage | None = None
    max_gradient_norm: PositiveFloat | None = None
    patience: PositiveInt | None = None
    accumulate_batches: PositiveInt = 1
