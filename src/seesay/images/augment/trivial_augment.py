"""TrivialAugment: one operation at one strength per image, both drawn uniformly (Mueller and Hutter, 2021, 'Wide').

Operations and strengths are those of torchvision's `TrivialAugmentWide`. Geometric operations are sampled bilinearly,
together with crop and flip, and show the mirrored image beyond its edges; torchvision takes the nearest pixel, and
black beyond the edges. The other operations change floats, without rounding to whole levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seesay.images.augment import colour
from seesay.images.augment.geometry import affine_maps, identity_maps

NUM_STRENGTHS = 31

OPERATIONS: dict[str, tuple[float, float, bool]] = {
    "identity": (0.0, 0.0, False),
    "shear_x": (0.0, 0.99, True),
    "shear_y": (0.0, 0.99, True),
    "translate_x": (0.0, 32.0, True),
    "translate_y": (0.0, 32.0, True),
    "rotate": (0.0, 135.0, True),
    "brightness": (0.0, 0.99, True),
    "saturation": (0.0, 0.99, True),
    "contrast": (0.0, 0.99, True),
    "sharpness": (0.0, 0.99, True),
    "posterize": (8.0, 2.0, False),
    "solarize": (255.0, 0.0, False),
    "autocontrast": (0.0, 0.0, False),
    "equalize": (0.0, 0.0, False),
}
"""Each operation's weakest and strongest strength, and whether its sign is random.

Shears are slopes, translations are pixels, rotations are degrees. Brightness, saturation, contrast and sharpness are
factors minus one. Posterize has the number of bits kept, solarize has a threshold.
"""

NAMES = tuple(OPERATIONS)

_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda images, strength: colour.adjust_brightness(images, 1.0 + strength),
    "saturation": lambda images, strength: colour.adjust_saturation(images, 1.0 + strength),
    "contrast": lambda images, strength: colour.adjust_contrast(images, 1.0 + strength),
    "sharpness": lambda images, strength: colour.adjust_sharpness(images, 1.0 + strength),
    "posterize": lambda images, strength: colour.posterize(images, strength.round()),
    "solarize": colour.solarize,
    "autocontrast": lambda images, _: colour.autocontrast(images),
    "equalize": lambda images, _: colour.equalize(images),
}


@dataclass(frozen=True)
class Operations:
    """The operation for each of n images.

    `kind` is int64 (n,), an index into NAMES, on the CPU. `strength` is float32 (n,).
    """

    kind: Tensor
    strength: Tensor

    def to(self, device: torch.device) -> Operations:
        """Move `strength` to `device`.

        `kind` stays on the CPU, so that grouping a batch by it does not wait for a device.
        """
        return Operations(self.kind, self.strength.to(device, non_blocking=True))

    def __getitem__(self, chosen: slice) -> Operations:
        return Operations(self.kind[chosen], self.strength[chosen])


def draw_operations(num_images: int, *, generator: torch.Generator) -> Operations:
    weakest, strongest, signed = (torch.tensor(values) for values in zip(*OPERATIONS.values(), strict=True))
    kind = torch.randint(len(NAMES), (num_images,), generator=generator)
    share = torch.randint(NUM_STRENGTHS, (num_images,), generator=generator) / (NUM_STRENGTHS - 1)
    is_negative = torch.rand(num_images, generator=generator) < 0.5
    strength = weakest[kind] + (strongest - weakest)[kind] * share
    return Operations(kind, torch.where(is_negative & signed[kind], -strength, strength))


def operation_maps(operations: Operations, *, image_size: int) -> Tensor:
    """Return the geometric operations as maps (n, 3, 3) of `seesay.images.augment.geometry`, on the CPU.

    Other operations give identity maps. Shears keep the top left corner in place, translations are by whole pixels,
    rotations are counterclockwise.
    """
    maps = identity_maps(len(operations.kind))

    def chosen(name: str) -> tuple[Tensor, Tensor]:
        rows = (operations.kind == NAMES.index(name)).nonzero()[:, 0]
        return rows, operations.strength[rows]

    for name, axis in (("shear_x", 0), ("shear_y", 1)):
        rows, slope = chosen(name)
        maps[rows, axis, 1 - axis], maps[rows, axis, 2] = slope, 0.5 * slope
    for name, axis in (("translate_x", 0), ("translate_y", 1)):
        rows, pixels = chosen(name)
        maps[rows, axis, 2] = -pixels.trunc() / image_size
    rows, degrees = chosen("rotate")
    zero = torch.zeros_like(degrees)
    maps[rows] = affine_maps(rotation=-degrees, shear=zero, zoom=zero + 1.0, across=zero, down=zero)
    return maps


def change_colours(images: Tensor, operations: Operations) -> Tensor:
    """Apply the colour operations to `images`, float32 (n, 3, H, W), 0 to 255, in place."""
    for name, change in _CHANGES.items():
        rows = (operations.kind == NAMES.index(name)).nonzero()[:, 0].to(images.device, non_blocking=True)
        if len(rows):
            images.index_copy_(0, rows, change(images.index_select(0, rows), operations.strength[rows]))
    return images
