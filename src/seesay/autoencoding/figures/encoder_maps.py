"""Figures of an encoder's maps: the maps beside reconstructions, and their correlation with low errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seesay.autoencoding.figures.reconstructions import choose_at_random, without_hidden
from seesay.classification.figures.explanation import heat, overlaid
from seesay.core.files import atomic_directory
from seesay.params.results import EncoderMaps
from seesay.plotting.panels import Tile, draw_panel, from_array, recompress
from seesay.plotting.style import BLUE, GREY, new_figure

if TYPE_CHECKING:
    from seesay.autoencoding.explain import AutoencoderExplanation, ErrorCorrelation
    from seesay.autoencoding.reconstruct import Reconstructions
    from seesay.images.packed import PackedImages

_SIDE = 104
_NAMES = {"grad_cam": "Grad-CAM"}
_MAX_ERROR = 0.25
"""Root mean squared error of a pixel that is shown as the brightest."""


def draw_encoder_maps(
    folder: Path,
    explanation: AutoencoderExplanation,
    reconstructions: Reconstructions,
    images: PackedImages,
    *,
    hidden: np.ndarray | None,
    cell: str,
    settings: EncoderMaps,
) -> None:
    """Fill `folder` with `maps.webp` and, where there are maps, `agreement.svg`; all or nothing."""
    with atomic_directory(folder) as new:
        _draw_panel(
            new / "maps.webp", explanation, reconstructions, images, hidden=hidden, cell=cell, settings=settings
        )
        if explanation.correlations:
            draw_error_correlations(new / "agreement.svg", explanation.correlations, title=cell)


def draw_error_correlations(path: Path, correlations: list[ErrorCorrelation], *, title: str) -> None:
    """Draw histograms over the test images of each map's rank correlation with low error, and of its control's."""
    edges = np.linspace(-1.0, 1.0, 41)
    with new_figure(path, width=3.4 * len(correlations), height=3.0) as figure:
        figure.suptitle(
            f"{title}: rank correlation of maps with low error", x=0.01, ha="left", fontsize=11, fontweight="bold"
        )
        all_axes = figure.subplots(1, len(correlations), squeeze=False)[0]
        for axes, correlation in zip(all_axes, correlations, strict=True):
            for values, colour, name in (
                (correlation.shuffled, GREY, "map of another image"),
                (correlation.correlations, BLUE, "own map"),
            ):
                counts, _ = np.histogram(values, edges)
                axes.stairs(
                    100 * counts / len(values),
                    edges,
                    color=colour,
                    linewidth=1.4,
                    label=f"{name}: {values.mean():+.2f}",
                )
                axes.axvline(values.mean(), color=colour, linestyle="--", linewidth=1)
            axes.set_title(_NAMES.get(correlation.name, correlation.name.replace("layer", "layer ")))
            axes.set_xlabel("rank correlation with low error")
            axes.set_ylabel("test images, percent")
            axes.set_ylim(top=1.5 * axes.get_ylim()[1])  # room for the legend
            axes.legend(loc="upper left", fontsize=7)


def _draw_panel(
    path: Path,
    explanation: AutoencoderExplanation,
    reconstructions: Reconstructions,
    images: PackedImages,
    *,
    hidden: np.ndarray | None,
    cell: str,
    settings: EncoderMaps,
) -> None:
    """Draw a row for each image: the image, its visible pixels, the reconstruction, the error, then the maps."""
    chosen = choose_at_random(len(images.test), count=settings.num_images, seed=settings.seed)
    heads: list[str] = []
    tiles: list[Tile] = []
    for number, row in enumerate(chosen):
        image = np.asarray(images.test.images[row])
        label = images.classes[images.test.labels[row]].label
        columns = [(label, from_array(image))]
        if hidden is not None:
            columns.append(("masked", from_array(without_hidden(image[None], hidden[row][None])[0])))
        error = np.sqrt(reconstructions.squared_errors[row]) / _MAX_ERROR
        columns.append(("output", from_array(np.asarray(reconstructions.images[row]))))
        columns.append(("error", from_array(heat(np.minimum(error, 1.0)))))
        if explanation.class_maps is not None:
            columns.append(("Grad-CAM", overlaid(from_array(image), explanation.class_maps[row])))
        columns += [
            (f"layer {layer.number} of {layer.num_layers}", from_array(heat(layer.strongest[row])))
            for layer in explanation.layers
        ]
        heads = [name for name, _ in columns]
        tiles += [
            Tile(picture, ((name, "black" if column == 0 or number == 0 else GREY),))
            for column, (name, picture) in enumerate(columns)
        ]
    about_grad_cam = (
        "Grad-CAM: of the classifier that the encoder was taken from, for the class it predicts. "
        if "Grad-CAM" in heads
        else ""
    )
    title = (
        f"{cell}: randomly chosen test images (seed {settings.seed}). Error: root mean square over colours, yellow is "
        f"{_MAX_ERROR} or more. {about_grad_cam}Layers: the encoder's map of highest contrast, each scaled to its own "
        "maximum."
    )
    draw_panel(path, tiles, title=title, columns=len(heads), side=_SIDE, text_size=13)
    recompress(path)
