"""Settings for autoencoders: their initial weights, masking and loss."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from seesay.core.settings import CellName, NaturalInt, NonNegativeFloat, PositiveInt, Settings
from seesay.params.classification import Architecture
from seesay.params.training import CLASSIFIERS, SCRATCH, Augmentation, AutoencoderStart, Training, name_in

PCA = "pca"
BACKBONE_AUTOENCODER = "backbone_autoencoder"
"""Architectures with rules of their own: one is not trained, the other is built on a classifier's backbone."""

SMALLEST_PATCH = 6
"""Side, in pixels, of the smallest patch that has an SSIM: its borders are reflected by half a window, 5 pixels."""

_LEARNING = ("training", "loss")


class ReconstructionLoss(Settings):
    """The weights of a loss that is a sum of terms.

    `l1` and `l2` weigh the mean absolute and the mean squared error of pixels in [0, 1]. `log_l2` weighs the mean over
    images of the logarithm of each image's mean squared error; minimising it maximises the mean PSNR. `ssim` weighs
    1 - SSIM, with masking the mean over the hidden patches, each an image of its own. `cross_entropy` weighs the
    cross-entropy of the class, which a linear layer reads from the latents; the layer is dropped after training.
    """

    l1: NonNegativeFloat = 0.0
    l2: NonNegativeFloat = 0.0
    log_l2: NonNegativeFloat = 0.0
    ssim: NonNegativeFloat = 0.0
    cross_entropy: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _something_counts(self) -> ReconstructionLoss:
        if not (self.l1 or self.l2 or self.log_l2 or self.ssim):
            raise ValueError("l1, l2, log_l2 and ssim: all are off: expected one above 0")
        return self


class Masking(Settings):
    """Masking of patches (He et al., "Masked Autoencoders", 2022).

    An image is divided into square patches with sides of `patch_size` pixels. A fraction `share` of them is hidden from
    the encoder, and the loss covers the hidden patches only. In training, new patches are drawn for each image and
    epoch. In val and test, the patches are drawn with `evaluation_seed`.
    """

    patch_size: PositiveInt
    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    evaluation_seed: NaturalInt


class Autoencoder(Settings):
    """An autoencoder.

    `start` is `scratch`, or `classifiers/<name>` to use that classifier's trained backbone as the encoder.
    `backbone_rate` is the backbone's learning rate as a fraction of the decoder's; if absent, it is 1. Principal
    components (architecture `pca`) are computed, not trained. Every other architecture needs `training` and `loss`.
    """

    dataset: CellName
    architecture: Architecture
    start: AutoencoderStart
    augmentation: Augmentation = Augmentation()
    training: Training | None = None
    loss: ReconstructionLoss | None = None
    masking: Masking | None = None
    backbone_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = None

    @property
    def parent(self) -> str | None:
        """The classifier whose backbone is the encoder; None with `scratch`."""
        return name_in(CLASSIFIERS, self.start)

    @model_validator(mode="after")
    def _images_are_not_mixed(self) -> Autoencoder:
        if self.augmentation.mixing is not None:
            raise ValueError("augmentation.mixing: expected none: an autoencoder has no labels to mix")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Autoencoder:
        kind = self.architecture.name
        for name in _LEARNING:
            if (getattr(self, name) is None) != (kind == PCA):
                raise ValueError(f"{name}: expected with every architecture but {PCA}, which is not trained")
        if kind == PCA and self.augmentation != Augmentation():
            raise ValueError(f"augmentation: expected none for architecture {PCA}, which is not trained")
        if kind == PCA and self.masking is not None:
            raise ValueError(f"masking: expected none for architecture {PCA}, which cannot learn to fill holes")
        if self.masking is None and self.architecture.arguments.get("completion") is not None:
            raise ValueError("architecture.completion: expected none without masking: nothing is hidden")
        self._check_ssim()
        self._check_backbone()
        return self

    def _check_ssim(self) -> None:
        if self.masking is None or self.loss is None or not self.loss.ssim:
            return
        if (side := self.masking.patch_size) < SMALLEST_PATCH:
            raise ValueError(
                f"loss.ssim: got {self.loss.ssim}: expected 0 with a masking.patch_size of {side}: patches of fewer "
                f"than {SMALLEST_PATCH} pixels a side have no SSIM"
            )

    def _check_backbone(self) -> None:
        kind, trains = self.architecture.name, self.architecture.arguments.get("train_backbone")
        if self.start != SCRATCH and kind != BACKBONE_AUTOENCODER:
            raise ValueError(f"start: got {self.start}: expected {SCRATCH} for architecture {kind}")
        if kind == BACKBONE_AUTOENCODER and self.start == SCRATCH and trains is False:
            raise ValueError(
                f"architecture.train_backbone: got false: expected true where start is {SCRATCH}: "
                "random weights have to learn"
            )
        if self.backbone_rate is not None and (self.start == SCRATCH or trains is not True):
            raise ValueError(f"backbone_rate: got {self.backbone_rate}: expected none where no backbone is fine-tuned")
