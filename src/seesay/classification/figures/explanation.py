"""Figures explaining one classifier: class maps over test images, first-layer filters, activation maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image

from seesay.core.files import atomic_directory
from seesay.params.results import Evaluation
from seesay.plotting.panels import Tile, draw_panel, from_array, letterbox
from seesay.plotting.style import BLUE, VERMILION

if TYPE_CHECKING:
    from seesay.classification.class_maps import ClassMaps
    from seesay.classification.explain import Explanation, Filters, LayerMaps
    from seesay.classification.predictions import SplitPredictions
    from seesay.images.packed import ImageSplit, PackedImages

_COLUMNS = 4
_SIDE = 180
_TEXT_SIZE = 17  # most labels with their percentage fit under a picture
_FILTER_SIDE, _UNIT_SIDE, _MAP_SIDE = 72, 128, 96
_QUALITY = 34  # of WebP; low, because the report embeds these figures of every classifier
_HEAT = "viridis"  # perceptually uniform, and ordered the same way for colour-blind readers and in grey


def draw_explanation(
    folder: Path,
    explanation: Explanation,
    test: SplitPredictions,
    images: PackedImages,
    *,
    cell: str,
    settings: Evaluation,
) -> None:
    """Fill `folder` with `gradcam.webp` and, if the network has such layers, `filters.webp` and `activations.webp`."""
    title = f"{cell} on {images.name}"
    with atomic_directory(folder) as new:
        draw_class_maps(new / "gradcam.webp", explanation, test, images.test, title=title, settings=settings)
        if explanation.filters is not None:
            draw_filters(new / "filters.webp", explanation.filters, title=title)
        if explanation.layers:
            first = explanation.chosen[0]
            label, predicted = test.class_labels[test.labels[first]], test.class_labels[test.predicted[first]]
            is_right = test.labels[first] == test.predicted[first]
            description = label if is_right else f"{label}, predicted as {predicted}"
            picture = np.asarray(images.test.images[first])
            draw_activations(
                new / "activations.webp", explanation.layers, picture, title=title, description=description
            )


def draw_class_maps(
    path: Path,
    explanation: Explanation,
    test: SplitPredictions,
    split: ImageSplit,
    *,
    title: str,
    settings: Evaluation,
) -> None:
    """Draw test images, each with its maps for the predicted class and, for mistakes, for the true class below."""
    chosen = explanation.chosen
    is_right = test.predicted[chosen] == test.labels[chosen]
    columns = max(1, min(_COLUMNS, max(int(is_right.sum()), int((~is_right).sum()))))
    pictures = [from_array(np.asarray(split.images[index])) for index in chosen]
    shares = 100 * test.probabilities[chosen]

    def tile(number: int, maps: ClassMaps, classes: np.ndarray, mark: str, colour: str) -> Tile:
        class_index = classes[chosen[number]]
        text = f"{mark}{shares[number, class_index]:.0f} % {test.class_labels[class_index]}"
        return Tile(overlaid(pictures[number], maps.maps[number]), ((text, colour),))

    tiles: list[Tile] = []
    names: list[str] = []
    for right in (True, False):
        mark, colour = ("✓ ", BLUE) if right else ("✗ ", VERMILION)
        for numbers in _chunks(np.flatnonzero(is_right == right), columns):
            labels = [test.class_labels[test.labels[chosen[n]]] for n in numbers]
            rows = {
                "image": [Tile(pictures[n], ((label, "black"),)) for n, label in zip(numbers, labels, strict=True)],
                "predicted": [tile(n, explanation.predicted, test.predicted, mark, colour) for n in numbers],
            }
            if not right:
                rows["true"] = [tile(n, explanation.true, test.labels, "", "black") for n in numbers]
            for name, row in rows.items():
                tiles += [*row, *[_blank()] * (columns - len(row))]
                names.append(name)
    heading = (
        f"{title}: {explained_by(explanation.predicted)} the class named below, dark blue the least; each map has its "
        f"own scale. Random test images (seed {settings.panel_seed}), correct predictions first."
    )
    draw_panel(path, tiles, title=heading, columns=columns, side=_SIDE, row_names=names, text_size=_TEXT_SIZE)
    _compress(path)


def explained_by(maps: ClassMaps) -> str:
    """Return the method and the meaning of its yellow, for titles."""
    means = "" if maps.num_networks == 1 else f", mean of {maps.num_networks} networks"
    if maps.is_grad_cam:
        return f"Grad-CAM{means}. Yellow is the strongest evidence for"
    return f"gradient at the input (no convolution, no Grad-CAM){means}. Yellow has the strongest effect on"


def draw_filters(path: Path, filters: Filters, *, title: str) -> None:
    """Draw the first layer's weights as colours; a weight of zero is grey."""
    count = len(filters.pictures)
    if filters.is_convolution:
        size = "×".join(map(str, filters.pictures.shape[1:3]))
        what, side, columns = f"filters of the first convolution, {size} pixels", _FILTER_SIDE, 8
    else:
        what, side, columns = "units of the first layer, which take the whole image", _UNIT_SIDE, 6
    which = f"all {count}" if count == filters.num_filters else f"the first {count} of {filters.num_filters}"
    tiles = [Tile(_enlarged((255 * picture).round().astype(np.uint8), side), ()) for picture in filters.pictures]
    heading = f"{title}: {which} {what}. Grey is a weight of zero; each has its own scale."
    draw_panel(path, tiles, title=heading, columns=min(columns, count), side=side)
    _compress(path)


def draw_activations(
    path: Path, layers: Sequence[LayerMaps], picture: np.ndarray, *, title: str, description: str
) -> None:
    """Draw the maps of some layers for one image (H, W, 3), uint8: a row per layer, with the image in front."""
    columns = 1 + max(len(layer.maps) for layer in layers)
    tiles: list[Tile] = []
    names = []
    for layer in layers:
        largest = np.maximum(layer.maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        tiles.append(Tile(from_array(picture), ()))
        tiles += [Tile(_enlarged(heat(one), _MAP_SIDE), ()) for one in layer.maps / largest]
        tiles += [_blank()] * (columns - 1 - len(layer.maps))
        size = "×".join(map(str, layer.maps.shape[1:]))
        names.append(f"{layer.number} of {layer.num_layers}: {size}")
    heading = (
        f"{title}: activations for a test image ({description}). The maps with the highest contrast after "
        f"{len(layers)} of its convolutions; yellow is each map's largest value, dark blue zero."
    )
    draw_panel(path, tiles, title=heading, columns=columns, side=_MAP_SIDE, row_names=names)
    _compress(path)


def heat(values: np.ndarray) -> np.ndarray:
    """Return the colours, uint8 (H, W, 3), of values in [0, 1]."""
    colours: np.ndarray = matplotlib.colormaps[_HEAT](values, bytes=True)[..., :3]
    return colours


def overlaid(picture: Image.Image, values: np.ndarray) -> Image.Image:
    """Blend values in [0, 1] (H, W), as colours, with a grey, blurred copy of the picture."""
    grey = letterbox(picture, _SIDE // 4).convert("L").convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    colours = from_array(heat(values)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return Image.blend(grey, colours, 0.6)


def _enlarged(pixels: np.ndarray, side: int) -> Image.Image:
    """Enlarge without smoothing, so that each weight or position stays a visible square."""
    return from_array(pixels).resize((side, side), Image.Resampling.NEAREST)


def _compress(path: Path) -> None:
    """Rewrite a picture with stronger compression."""
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    pixels.save(path, format="WEBP", quality=_QUALITY, method=6)


def _blank() -> Tile:
    return Tile(Image.new("RGB", (1, 1), "white"), ())


def _chunks(numbers: np.ndarray, size: int) -> list[np.ndarray]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
