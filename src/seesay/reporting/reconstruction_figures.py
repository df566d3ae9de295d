"""What does an autoencoder keep of an image? Inputs, reconstructions, what is lost, and the curves of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seesay.files import atomic_directory
from seesay.params.results import Evaluation
from seesay.paths import Paths
from seesay.reporting.curves import draw_curves, read_history
from seesay.reporting.panels import Tile, draw_panel, from_array
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.data.packed_images import ImageSplit
    from seesay.evaluation.reconstruction import Reconstructions

_ERROR_GAIN = 4
_COLUMNS = 6


def draw_reconstructions(
    folder: Path, reconstructions: Reconstructions, split: ImageSplit, paths: Paths, *, cell: str, settings: Evaluation
) -> None:
    """Fills `folder` with `curves.svg` and `reconstructions.webp`, all or nothing."""
    history = read_history(paths.table("train_autoencoder", cell, "history"))
    random = numpy_generator(settings.panel_seed, "panel")
    count = min(settings.panel_images, len(split.images))
    chosen = np.sort(random.permutation(len(split.images))[:count])
    with atomic_directory(folder) as new:
        draw_curves(new / "curves.svg", history, title=cell)
        _draw_rows(
            new / "reconstructions.webp",
            np.asarray(split.images[chosen]),
            np.asarray(reconstructions.images[chosen]),
            title=f"{cell}: test images drawn at random (seed {settings.panel_seed})",
        )


def _draw_rows(path: Path, inputs: np.ndarray, outputs: np.ndarray, *, title: str) -> None:
    """Three rows per group of columns: input, reconstruction, absolute error made brighter."""
    errors = absolute_error(inputs, outputs, gain=_ERROR_GAIN)
    columns = min(_COLUMNS, len(inputs))
    tiles: list[Tile] = []
    names: list[str] = []
    for start in range(0, len(inputs), columns):
        group = slice(start, start + columns)
        missing = columns - len(inputs[group])
        for name, pictures in (("input", inputs), ("output", outputs), (f"error ×{_ERROR_GAIN}", errors)):
            tiles += [Tile(from_array(picture), ()) for picture in pictures[group]]
            tiles += [Tile(from_array(np.full_like(inputs[0], 255)), ())] * missing
            names.append(name)
    draw_panel(path, tiles, title=title, columns=columns, side=160, row_names=names)


def absolute_error(inputs: np.ndarray, outputs: np.ndarray, *, gain: int) -> np.ndarray:
    """|output - input| times `gain`, uint8, clipped at white; black is a perfect pixel."""
    difference = np.abs(inputs.astype(np.int32) - outputs.astype(np.int32))
    brightened: np.ndarray = np.minimum(gain * difference, 255).astype(np.uint8)
    return brightened
