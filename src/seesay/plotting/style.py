"""How a figure looks and is saved: one style, colours safe for colour-blind readers, equal bytes each time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), without its yellow, which is too light for lines.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
GREY = "#6B6B6B"

_STYLE = {
    "svg.hashsalt": "seesay",  # else the ids in an SVG are random
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "text.parse_math": False,  # a class or a caption may hold a dollar sign
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


_PIXELS_PER_INCH = 96  # a screen's, as browsers count
_NUM_COLOURS = 32


@contextmanager
def drawn(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """A figure (size in inches) to draw on, saved to `path` when the block ends: an SVG and, beside it, a WebP.

    The WebP has 32 colours, which takes a fourth of the room: for pages that hold many figures. The user's own
    matplotlibrc has no say, and no time or version goes into the files: equal data gives equal bytes.
    """
    with matplotlib.style.context([_STYLE], after_reset=True):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pixels = io.BytesIO()
        sharpness = 1.5 if width < 8 else 1.125  # the wider ones are shown smaller than they are
        figure.savefig(pixels, format="png", dpi=sharpness * _PIXELS_PER_INCH)
    few_colours(Image.open(pixels)).save(path.with_suffix(".webp"), format="WEBP", lossless=True, quality=100, method=4)


def few_colours(image: Image.Image) -> Image.Image:
    """The image in 32 of its own colours, each other one replaced by the nearest.

    The most frequent first, then each time the one whose pixels are farthest from those chosen: a plot's flat colours
    stay as they are, and a small mark keeps its own.
    """
    pixels = np.asarray(image.convert("RGB"))
    packed = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1)
    kept, distance = [int(np.argmax(counts))], np.full(len(colours), np.inf)
    nearest = np.zeros(len(colours), dtype=np.int64)
    while True:
        from_last = ((colours - colours[kept[-1]]) ** 2).sum(axis=1)
        nearest = np.where(from_last < distance, kept[-1], nearest)
        distance = np.minimum(distance, from_last)
        if len(kept) == _NUM_COLOURS or not distance.any():
            return Image.fromarray(colours[nearest][inverse].reshape(pixels.shape).astype(np.uint8), "RGB")
        kept.append(int(np.argmax(counts * distance)))


def direct_label(axes: Axes, text: str, x: float, y: float, *, below: bool = False, colour: str = "black") -> None:
    """Writes `text` just above (or below) a point, on white so that lines behind it do not cross the letters."""
    axes.annotate(
        text,
        (x, y),
        xytext=(0, -8 if below else 8),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        color=colour,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )
