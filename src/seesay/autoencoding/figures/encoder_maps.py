"""What does an encoder look at, beside what is drawn? Maps beside reconstructions, and how they agree with errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seesay.autoencoding.figures.reconstructions import choose_at_random, without_hidden
from seesay.classification.figures.explanation import heat, overlaid
from seesay.core.files import atomic_directory
from seesay.params.results import EncoderMaps
from seesay.plotting.panels import Tile, draw_panel, from_array, make_small
from seesay.plotting.style import BLUE, GREY, drawn

if TYPE_CHECKING:
    from seesay.autoencoding.explain import Agreement, AutoencoderExplanation
    from seesay.autoencoding.reconstruct import Reconstructions
    from seesay.images.packed import PackedImages

_SIDE = 104
_NAMES = {"grad_cam": "Grad-CAM"}
_LARGEST_ERROR = 0.25
"""Root of the mean squared error of a pixel that is shown as the brightest."""


def draw_encoder_maps(
    folder: Path,
    explanation: AutoencoderExplanation,
    drawn_images: Reconstructions,
    images: PackedImages,
    *,
    hidden: np.ndarray | None,
    cell: str,
    settings: EncoderMaps,
) -> None:
    """Fills `folder` with `maps.webp` and, where there are maps, `agreement.svg`; all or nothing."""
    with atomic_directory(folder) as new:
        _draw_panel(new / "maps.webp", explanation, drawn_images, images, hidden=hidden, cell=cell, settings=settings)
        if explanation.agreements:
            draw_agreements(new / "agreement.svg", explanation.agreements, title=cell)


def _draw_panel(
    path: Path,
    explanation: AutoencoderExplanation,
    drawn_images: Reconstructions,
    images: PackedImages,
    *,
    hidden: np.ndarray | None,
    cell: str,
    settings: EncoderMaps,
) -> None:
    """A row for each image: itself, what was shown of it, what was drawn, the error, then the maps."""
    chosen = choose_at_random(len(images.test), count=settings.num_images, seed=settings.seed)
    heads: list[str] = []
    tiles: list[Tile] = []
    for number, row in enumerate(chosen):
        image = np.asarray(images.test.images[row])
        label = images.classes[images.test.labels[row]].label
        columns = [(label, from_array(image))]
        if hidden is not None:
            columns.append(("shown", from_array(without_hidden(image[None], hidden[row][None])[0])))
        error = np.sqrt(drawn_images.squared_errors[row]) / _LARGEST_ERROR
        columns.append(("drawn", from_array(np.asarray(drawn_images.images[row]))))
        columns.append(("error", from_array(heat(np.minimum(error, 1.0)))))
        if explanation.class_maps is not None:
            columns.append(("Grad-CAM", overlaid(from_array(image), explanation.class_maps[row])))
        columns += [
            (f"layer {layer.number} of {layer.num_layers}", from_array(heat(layer.strongest[row])))
            for layer in explanation.layers
        ]
        heads = [name for name, _ in columns]
        tiles += [
            Tile(picture, ((name, "black" if place == 0 or number == 0 else GREY),))
            for place, (name, picture) in enumerate(columns)
        ]
    which = (
        "Grad-CAM is of the classifier that it is built on, for the class it predicts. " if "Grad-CAM" in heads else ""
    )
    title = (
        f"{cell}: test images drawn at random (seed {settings.seed}). Error: root of the mean square over "
        f"colours, yellow is {_LARGEST_ERROR} and more. {which}Layers: the encoder's map of most contrast, each on "
        "a scale of its own."
    )
    draw_panel(path, tiles, title=title, columns=len(heads), side=_SIDE, text_size=13)
    make_small(path)


def draw_agreements(path: Path, agreements: list[Agreement], *, title: str) -> None:
    """A histogram of each map's rank correlation with low error over the test images, and the shuffled control's."""
    edges = np.linspace(-1.0, 1.0, 41)
    with drawn(path, width=3.4 * len(agreements), height=3.0) as figure:
        figure.suptitle(
            f"{title}: does a map's height go with a small error?", x=0.01, ha="left", fontsize=11, fontweight="bold"
        )
        for axes, one in zip(figure.subplots(1, len(agreements), squeeze=False)[0], agreements, strict=True):
            for values, colour, name in (
                (one.shuffled, GREY, "map of another image"),
                (one.correlations, BLUE, "its own map"),
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
            axes.set_title(_NAMES.get(one.name, one.name.replace("layer", "layer ")))
            axes.set_xlabel("rank correlation with low error")
            axes.set_ylabel("test images, percent")
            axes.set_ylim(top=1.5 * axes.get_ylim()[1])  # room for the legend
            axes.legend(loc="upper left", fontsize=7)
