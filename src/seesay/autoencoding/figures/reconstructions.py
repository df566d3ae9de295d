"""Figures of an autoencoder's reconstructions and completions, and its training curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seesay.core.paths import Paths
from seesay.params.results import Evaluation
from seesay.plotting.curves import draw_curves, read_history
from seesay.plotting.panels import Tile, draw_panel, from_array, recompress
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.autoencoding.evaluate import Completion
    from seesay.autoencoding.reconstruct import Reconstructions
    from seesay.images.packed import ImageSplit

_ERROR_GAIN = 4
_COLUMNS = 6
_SIDE = 96
_HIDDEN_COLOUR = 128


def draw_reconstructions(
    folder: Path,
    reconstructions: Reconstructions,
    completion: Completion | None,
    split: ImageSplit,
    paths: Paths,
    *,
    cell: str,
    settings: Evaluation,
) -> None:
    """Fill `folder` with `curves.svg`, `reconstructions.webp` and, with a `completion`, `completions.webp`."""
    history = read_history(paths, "train_autoencoder", cell)
    chosen = choose_at_random(len(split.images), count=settings.panel_images, seed=settings.panel_seed)
    inputs, subject = np.asarray(split.images[chosen]), f"randomly chosen test images (seed {settings.panel_seed})"
    draw_curves(folder / "curves.svg", history, title=cell)
    outputs = np.asarray(reconstructions.images[chosen])
    rows = {
        "input": inputs,
        "output": outputs,
        f"error ×{_ERROR_GAIN}": absolute_error(inputs, outputs, gain=_ERROR_GAIN),
    }
    draw_rows(folder / "reconstructions.webp", rows, title=f"{cell}: {subject}")
    if completion is not None:
        hidden = completion.hidden[chosen]
        completed, inpainted = (
            np.where(hidden[..., None], one.images[chosen], inputs)
            for one in (completion.completed, completion.inpainted)
        )
        rows = {
            "image": inputs,
            "masked": without_hidden(inputs, hidden),
            "completed": completed,
            "inpainted": inpainted,
        }
        title = f"{cell}: {subject}; hidden patches completed by the autoencoder, and by OpenCV's inpainting"
        draw_rows(folder / "completions.webp", rows, title=title)


def choose_at_random(num_images: int, *, count: int, seed: int) -> np.ndarray:
    """Choose `count` random images, or all where there are fewer, in the split's order."""
    random = numpy_generator(seed, "panel")
    chosen: np.ndarray = np.sort(random.permutation(num_images)[:count])
    return chosen


def without_hidden(images: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return `images` (n, S, S, 3) with grey where `hidden` (n, S, S)."""
    visible: np.ndarray = np.where(hidden[..., None], np.uint8(_HIDDEN_COLOUR), images)
    return visible


def draw_rows(path: Path, rows: Mapping[str, np.ndarray], *, title: str) -> None:
    """Draw `rows`, images uint8 (n, S, S, 3) by name: for every group of columns a row of each name."""
    first = next(iter(rows.values()))
    columns = min(_COLUMNS, len(first))
    tiles: list[Tile] = []
    names: list[str] = []
    for start in range(0, len(first), columns):
        for name, pictures in rows.items():
            group = pictures[start : start + columns]
            tiles += [Tile(from_array(picture), ()) for picture in group]
            tiles += [Tile(from_array(np.full_like(first[0], 255)), ())] * (columns - len(group))
            names.append(name)
    draw_panel(path, tiles, title=title, columns=columns, side=_SIDE, row_names=names)
    recompress(path)


def absolute_error(inputs: np.ndarray, outputs: np.ndarray, *, gain: int) -> np.ndarray:
    """Return |output - input| times `gain`, uint8, clipped at white; black is a perfect pixel."""
    difference = np.abs(inputs.astype(np.int32) - outputs.astype(np.int32))
    brightened: np.ndarray = np.minimum(gain * difference, 255).astype(np.uint8)
    return brightened
