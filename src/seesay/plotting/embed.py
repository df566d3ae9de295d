"""Pictures embedded in a page, so that the page opens without any other file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

from seesay.core.paths import Paths

PANEL_WIDTH = 800
"""Largest width in pixels of panels of photographs on a page; the files keep their size."""

_PANEL_QUALITY = 42
_INVISIBLE = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_PLAIN = " /:=;,'()?@!$*+.-_~|[]{}"
_WIDTH = re.compile(r'<svg[^>]*\swidth="([\d.]+)pt"')


@dataclass(frozen=True)
class Picture:
    """A picture on a page.

    `source` is a data URI. Colours of a plot (`is_plot`) may be inverted in dark mode, those of a photograph may not.
    `width` is the displayed width in CSS pixels, 0 for the picture's own.
    """

    source: Markup
    description: str
    is_plot: bool
    width: int


@dataclass(frozen=True)
class Example:
    """One example of a caption panel: an image, its predicted caption and its references."""

    kind: str
    picture: Markup | None
    prediction: str
    references: tuple[str, ...]
    cider_d: float


@dataclass
class ExperimentFigures:
    """The figures of one experiment.

    `details` are in a section that can be folded, and is open where `is_open`. `left_out` names the folders of figures
    that do not fit on the page. A dataset's best captioner has `examples`, and the `rule` they were chosen by.
    """

    cell: str
    task: str
    pictures: list[Picture]
    details: list[Picture] = field(default_factory=list)
    is_open: bool = False
    left_out: list[str] = field(default_factory=list)
    rule: str = ""
    examples: tuple[Example, ...] = ()


@dataclass
class SizeBudget:
    """The bytes that are left for pictures on a page."""

    num_bytes: int

    def take(self, pictures: Sequence[Picture]) -> bool:
        """Reserve the bytes of `pictures`; returns false, and reserves none, where they do not fit."""
        needed = sum(len(picture.source) for picture in pictures)
        fits = needed <= self.num_bytes
        self.num_bytes -= needed if fits else 0
        return fits

    def add(self, figures: ExperimentFigures, folder: Path, names: Sequence[tuple[str, str]], paths: Paths) -> None:
        """Add all the pictures of one kind to an experiment's details, or none of them."""
        pictures = read_pictures(folder, names)
        if not pictures:
            return
        if not figures.left_out and self.take(pictures):
            figures.details += pictures
        elif (name := folder.relative_to(paths.root).as_posix()) not in figures.left_out:
            figures.left_out.append(name)


def read_picture(path: Path, description: str) -> Picture | None:
    """Read the figure at `path` for a page; None where there is none.

    For a plot (`.svg`) the WebP beside it is used where there is one, as it takes a quarter of the bytes. A panel of
    photographs is reduced to at most PANEL_WIDTH pixels.
    """
    if not path.is_file():
        return None
    if path.suffix == ".svg":
        width = _WIDTH.search(path.read_text(encoding="utf-8")[:1000])
        raster = path.with_suffix(".webp")
        source = data_uri(raster if raster.is_file() else path)
        assert source is not None
        return Picture(source, description, True, round(float(width[1]) * 96 / 72) if width else 0)
    with Image.open(path) as image:
        if image.width <= PANEL_WIDTH:
            return Picture(_encode_base64("webp", path.read_bytes()), description, False, image.width)
        size = (PANEL_WIDTH, round(image.height * PANEL_WIDTH / image.width))
        smaller = io.BytesIO()
        shrunk = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        shrunk.save(smaller, format="WEBP", quality=_PANEL_QUALITY, method=6)
    return Picture(_encode_base64("webp", smaller.getvalue()), description, False, PANEL_WIDTH)


def data_uri(path: Path) -> Markup | None:
    """Return the picture as a data URI, safe inside double quotes; None where there is no such file.

    SVG is percent-encoded without its invisible parts, which is a quarter smaller than base64. As an image, and not as
    part of the page, it can neither run scripts nor share ids with other figures.
    """
    if not path.is_file():
        return None
    if path.suffix == ".svg":
        text = _INVISIBLE.sub("", path.read_text(encoding="utf-8")).replace('"', "'")
        text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").strip()
        # A hundredth of a point is finer than any screen. Numbers below one are kept: they may be scales.
        text = re.sub(r"(?<![\d.])([1-9]\d*\.\d\d)\d+", r"\1", text)
        return Markup("data:image/svg+xml," + quote(text, safe=_PLAIN))
    return _encode_base64({".png": "png", ".webp": "webp"}[path.suffix], path.read_bytes())


def read_pictures(folder: Path, names: Sequence[tuple[str, str]]) -> list[Picture]:
    """Read the pictures (file name, description) that exist in `folder`."""
    pictures = (read_picture(folder / name, description) for name, description in names)
    return [picture for picture in pictures if picture is not None]


def _encode_base64(kind: str, content: bytes) -> Markup:
    return Markup(f"data:image/{kind};base64," + base64.b64encode(content).decode())
