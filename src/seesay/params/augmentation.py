"""Settings for augmenting training images. An absent setting is off."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seesay.core.settings import Fraction, NaturalInt, NonNegativeFloat, Settings

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
