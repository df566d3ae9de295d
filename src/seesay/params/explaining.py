"""Settings of the explanation of autoencoders' encoders: layers and images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from seesay.params.reading import AsTuple, Fraction, NaturalInt, PositiveInt, Settings


class EncoderMaps(Settings):
    """`depths` choose among an encoder's convolutions: 0 is the first, 1 the last, 0.5 the middle one. The panel shows
    `num_images` test images drawn with `seed`."""

    depths: Annotated[tuple[Fraction, ...], AsTuple, Field(min_length=1)]
    num_images: PositiveInt
    seed: NaturalInt

    @field_validator("depths")
    @classmethod
    def _in_order(cls, depths: tuple[float, ...]) -> tuple[float, ...]:
        if list(depths) != sorted(set(depths)):
            raise ValueError(f"got {list(depths)}: expected different depths, the smallest first")
        return depths
