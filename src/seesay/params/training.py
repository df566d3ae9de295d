"""Settings for training, shared by classifiers, autoencoders and captioners."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seesay.core.settings import AsTuple, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Runtime(Settings):
    """Device, precision and threads of computations. `auto` depends on the machine; see `seesay.compute`."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    precision: Literal["auto", "float32", "bfloat16"]
    num_threads: Literal["auto"] | PositiveInt
    deterministic: bool
    compile: bool

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
