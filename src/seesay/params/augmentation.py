"""Settings of the augmentation of training images; a switch that is absent is off."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from seesay.core.settings import Fraction, NaturalInt, NonNegativeFloat, Settings

Area = Annotated[float, Field(gt=0.0, le=1.0)]


class ResizedCrop(Settings):
    """A window of `min_area` to `max_area` of the image's area and an aspect of 1 / `max_aspect` to `max_aspect`, shown
    at full size."""

    min_area: Area
    max_area: Area
    max_aspect: Annotated[float, Field(ge=1.0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _areas_are_in_order(self) -> ResizedCrop:
        if self.min_area > self.max_area:
            raise ValueError(f"min_area: got {self.min_area}: expected at most max_area, {self.max_area}")
        return self


class Affine(Settings):
    """The most an image is moved either way: `rotation` and `shear` in degrees, `translation` as a share of the image's
    side, `zoom` z magnifying by 1 - z to 1 + z."""

    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    translation: Fraction = 0.0
    shear: Annotated[float, Field(ge=0.0, lt=90.0)] = 0.0
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class ColourJitter(Settings):
    """Each factor lies between 1 - x and 1 + x, where a factor of 1 changes nothing."""

    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0


class Mixing(Settings):
    """The share `probability` of the images is mixed with another one of the batch, and so are the labels. An image's
    own share comes from Beta(alpha, alpha). Without its alpha a kind is off; with both on, each image takes one."""

    mixup_alpha: NonNegativeFloat = 0.0
    cutmix_alpha: NonNegativeFloat = 0.0
    probability: Annotated[float, Field(gt=0.0, le=1.0)]

    @model_validator(mode="after")
    def _one_kind_is_on(self) -> Mixing:
        if not self.mixup_alpha and not self.cutmix_alpha:
            raise ValueError("mixup_alpha and cutmix_alpha: both are off: expected one above 0, or no mixing at all")
        return self


class Augmentation(Settings):
    """Random changes of training images; `cutout` is the side of the grey square, as a share of the image's."""

    flip: bool = False
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
