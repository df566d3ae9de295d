"""How a figure looks and is saved: one style, colours safe for colour-blind readers, equal bytes each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


@contextmanager
def drawn(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """A figure (size in inches) to draw on, saved to `path` when the block ends.

    The user's own matplotlibrc has no say, and no time or version goes into the file: equal data gives equal bytes.
    """
    with matplotlib.style.context([_STYLE], after_reset=True):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Date": None, "Creator": None})


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
