"""Settings of autoencoders: what one is built on, what is hidden from it, and what it is asked to draw well."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from seesay.params import experiments
from seesay.params.augmentation import Augmentation
from seesay.params.experiments import NONE
from seesay.params.reading import CellName, NaturalInt, NonNegativeFloat, PositiveInt, Settings
from seesay.params.training import Training

PCA = "pca"
BACKBONE_AUTOENCODER = "backbone_autoencoder"
"""Architectures that start from something beside images: nothing to train; a classifier's backbone."""

_LEARNING = ("augmentation", "training", "loss")


class ReconstructionLoss(Settings):
    """The weights of what is summed. `l1`, `l2`: mean absolute and mean squared error of [0, 1] pixels; `log_l2`: the
    mean over images of the logarithm of each one's mean squared error, which is their mean PSNR turned round; `ssim`:
    1 - SSIM."""

    l1: NonNegativeFloat
    l2: NonNegativeFloat
    log_l2: NonNegativeFloat
    ssim: NonNegativeFloat

    @model_validator(mode="after")
    def _something_counts(self) -> ReconstructionLoss:
        if not (self.l1 or self.l2 or self.log_l2 or self.ssim):
            raise ValueError("l1, l2, log_l2 and ssim: all are 0: expected one above 0")
        return self


class Masking(Settings):
    """Of the squares of `patch_size` pixels a side that an image consists of, `share` are hidden from the encoder; the
    loss is of them alone (He et al., "Masked Autoencoders", 2022).

    Training draws others for each image and epoch; val and test have those that `evaluation_seed` draws.
    """

    patch_size: PositiveInt
    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    evaluation_seed: NaturalInt


class Autoencoder(experiments.Autoencoder):
    """`built_on` names the classifier whose trained backbone is the encoder; `none`: it starts from random weights.

    `backbone_rate` is the backbone's learning rate as a share of the decoder's (absent: 1). Principal components
    (architecture `pca`) are computed, not trained; any other needs `augmentation`, `training` and `loss`. Absent
    `masking` is off.
    """

    augmentation: Augmentation | None = None  # type: ignore[assignment]  # principal components have neither
    training: Training | None = None  # type: ignore[assignment]
    built_on: CellName
    loss: ReconstructionLoss | None = None
    masking: Masking | None = None
    backbone_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _images_are_not_mixed(self) -> Autoencoder:
        if self.augmentation is not None and self.augmentation.mixing is not None:
            raise ValueError("augmentation.mixing: expected none: an autoencoder has no labels to mix")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Autoencoder:
        kind = self.architecture.name
        for name in _LEARNING:
            if (getattr(self, name) is None) != (kind == PCA):
                raise ValueError(f"{name}: expected with every architecture but {PCA}, which is not trained")
        if kind == PCA and self.masking is not None:
            raise ValueError(f"masking: expected none for architecture {PCA}, which cannot learn to fill holes")
        if self.masking is not None and self.loss is not None and self.loss.ssim:
            raise ValueError(f"loss.ssim: got {self.loss.ssim}: expected 0 with masking: its windows see past a patch")
        self._check_backbone()
        return self

    def _check_backbone(self) -> None:
        kind, trains = self.architecture.name, self.architecture.arguments.get("train_backbone")
        if self.built_on != NONE and kind != BACKBONE_AUTOENCODER:
            raise ValueError(f"built_on: got {self.built_on}: expected {NONE} for architecture {kind}")
        if kind == BACKBONE_AUTOENCODER and self.built_on == NONE and trains is False:
            raise ValueError(
                f"architecture.train_backbone: got false: expected true where built_on is {NONE}: "
                "random weights have to learn"
            )
        if self.backbone_rate is not None and (self.built_on == NONE or trains is not True):
            raise ValueError(f"backbone_rate: got {self.backbone_rate}: expected none where no backbone is fine-tuned")
