"""Style and saving of figures: colours safe for colour-blind readers, and equal bytes for equal data."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), without its yellow, which is too light for lines.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
GREY = "#6B6B6B"

_STYLE = {
    "svg.hashsalt": "seesay",  # else the ids in an SVG are random
    "svg.fonttype": "path",  # the same look where the font is not installed
    "text.parse_math": False,  # a label or a caption may contain a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

_PIXELS_PER_INCH = 96  # of CSS pixels
_NUM_COLOURS = 32


@contextmanager
def new_figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure (size in inches) to draw on, and save it to `path` as an SVG and, beside it, as a WebP.

    The WebP, for pages with many figures, has 32 colours and takes a quarter of the bytes. The user's own matplotlibrc
    is ignored, and the files contain no time or version, so that equal data gives equal bytes.
    """
    with matplotlib.style.context([_STYLE], after_reset=True):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        _fit_titles(figure)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pixels = io.BytesIO()
        sharpness = 1.5 if width < 8 else 1.125  # wide figures are scaled down on the page
        figure.savefig(pixels, format="png", dpi=sharpness * _PIXELS_PER_INCH)
    reduce_colours(Image.open(pixels)).save(
        path.with_suffix(".webp"), format="WEBP", lossless=True, quality=100, method=4
    )


def _fit_titles(figure: Figure) -> None:
    """Make titles smaller that would be cut off at the right edge: names of experiments may be long."""
    figure.draw_without_rendering()
    named = {axes.get_title(place) for axes in figure.axes for place in ("left", "center", "right")}
    named.add(figure.get_suptitle())
    texts = (child for part in (figure, *figure.axes) for child in part.get_children() if isinstance(child, Text))
    for text in (text for text in texts if text.get_text() in named - {""}):
        # At other resolutions hinting makes the same text up to five percent wider.
        extent, edge = text.get_window_extent(), 0.94 * figure.bbox.width
        if extent.x0 < edge < extent.x1:
            text.set_fontsize(text.get_fontsize() * (edge - extent.x0) / extent.width)


def reduce_colours(image: Image.Image) -> Image.Image:
    """Reduce the image to 32 of its own colours, replacing each other colour by the nearest of them.

    The first is the most frequent; each next one is that whose pixels are farthest, in total, from those chosen so far.
    So a plot's flat colours stay as they are, and a small mark keeps its own.
    """
    pixels = np.asarray(image.convert("RGB"))
    packed = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1)
    chosen, distance = [int(np.argmax(counts))], np.full(len(colours), np.inf)
    nearest = np.zeros(len(colours), dtype=np.int64)
    while True:
        from_last = ((colours - colours[chosen[-1]]) ** 2).sum(axis=1)
        nearest = np.where(from_last < distance, chosen[-1], nearest)
        distance = np.minimum(distance, from_last)
        if len(chosen) == _NUM_COLOURS or not distance.any():
            return Image.fromarray(colours[nearest][inverse].reshape(pixels.shape).astype(np.uint8), "RGB")
        chosen.append(int(np.argmax(counts * distance)))
