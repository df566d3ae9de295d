"""Importing this module makes stages write their outputs faster.

Matplotlib draws small figures without layout, axes, arrows and legends, in a third of the time; they still show all
their data. WebP is compressed in its fastest way. Files are not forced to the disk. Tests of the pipeline look at the
bytes of pictures only, never at where things are or how large files get.
"""

from __future__ import annotations

import os
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.patches import FancyArrowPatch
from PIL.Image import Image

_PIXELS_PER_INCH = 24


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


_save = Figure.savefig


def _save_small(figure: Figure, path: Any, **options: Any) -> None:
    _save(figure, path, **({**options, "dpi": _PIXELS_PER_INCH} if "dpi" in options else options))


_save_image = Image.save


def _save_quickly(image: Image, *arguments: Any, **options: Any) -> None:
    quickly = {"method": 0, **({"quality": 0} if options.get("lossless") else {})}
    _save_image(image, *arguments, **({**options, **quickly} if "method" in options else options))


for owner, method in (
    (ConstrainedLayoutEngine, "execute"), (Figure, "draw_without_rendering"), (Axis, "draw"), (Axis, "get_tightbbox"),
    (Axes, "_update_title_position"), (FancyArrowPatch, "draw"), (Legend, "draw"),
):  # fmt: skip
    assert callable(getattr(owner, method))
    setattr(owner, method, _do_nothing)
Figure.savefig = _save_small  # type: ignore[method-assign]
Image.save = _save_quickly  # type: ignore[method-assign]
os.fsync = _do_nothing
