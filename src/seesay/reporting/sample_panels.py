"""What do a dataset's classes look like? Training images of each class, drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from seesay.reporting.panels import font, from_array, save_webp, wrap
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.data.packed_images import PackedImages

_MAX_CLASSES = 60
_SIDE, _GAP, _MARGIN, _NAME_WIDTH, _TITLE = 64, 4, 16, 170, 20
_BLOCKS = 2


def draw_samples(path: Path, images: PackedImages, *, per_class: int, seed: int) -> None:
    """A row of `per_class` training images for each class, in two columns of classes; of many classes the first 60."""
    classes = images.classes[:_MAX_CLASSES]
    which = "" if len(classes) == images.num_classes else f"the first {len(classes)} of {images.num_classes} classes, "
    title = f"{images.name}: {which}{per_class} training images of each class drawn at random (seed {seed})"
    blocks = min(_BLOCKS, len(classes))
    num_rows = -(-len(classes) // blocks)
    block_width = _NAME_WIDTH + per_class * (_SIDE + _GAP)
    width = 2 * _MARGIN + blocks * block_width
    lines = wrap(title, width - 2 * _MARGIN, size=_TITLE)
    top = _MARGIN + len(lines) * (_TITLE + 8) + 8
    canvas = Image.new("RGB", (width, top + num_rows * (_SIDE + _GAP) + _MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + number * (_TITLE + 8)), line, fill="black", font=font(_TITLE))
    for index, image_class in enumerate(classes):
        x = _MARGIN + index // num_rows * block_width
        y = top + index % num_rows * (_SIDE + _GAP)
        place = (x + _NAME_WIDTH - 2 * _GAP, y + _SIDE // 2)
        pen.text(place, image_class.label, fill="black", font=font(_TITLE - 3), anchor="rm")
        for number, row in enumerate(choose_samples(images.train.labels, index, per_class, seed=seed)):
            picture = from_array(np.asarray(images.train.images[row])).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            canvas.paste(picture, (x + _NAME_WIDTH + number * (_SIDE + _GAP), y))
    save_webp(path, canvas)


def choose_samples(labels: np.ndarray, class_index: int, count: int, *, seed: int) -> np.ndarray:
    """Up to `count` rows of a class, at random."""
    rows = np.flatnonzero(labels == class_index)
    chosen: np.ndarray = np.sort(numpy_generator(seed, "samples", class_index).permutation(rows)[:count])
    return chosen
