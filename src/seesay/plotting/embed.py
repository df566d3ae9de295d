"""How a picture gets into the page itself, so that the page opens without any other file."""

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
"""Pixels: wider panels of photographs are made smaller for the page; the files keep their size."""

_PANEL_QUALITY = 42
_NOT_DRAWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_PLAIN = " /:=;,'()?@!$*+.-_~|[]{}"
_WIDTH = re.compile(r'<svg[^>]*\swidth="([\d.]+)pt"')


@dataclass(frozen=True)
class Picture:
    """`source` is a data URI; a plot's colours may be inverted in the dark, a photograph's may not; `width` is what it
    is shown at, in a browser's pixels, 0 where the picture itself says it."""

    source: Markup
    description: str
    is_plot: bool
    width: int


def read_picture(path: Path, description: str) -> Picture | None:
    """The figure at `path` for the page, None where there is none.

    A plot (`.svg`) comes as the WebP beside it where there is one, which takes a fourth of the room; a panel of
    photographs at most PANEL_WIDTH wide.
    """
    if not path.is_file():
        return None
    if path.suffix == ".svg":
        width = _WIDTH.search(path.read_text(encoding="utf-8")[:1000])
        raster = path.with_suffix(".webp")
        source = embedded(raster if raster.is_file() else path)
        assert source is not None
        return Picture(source, description, True, round(float(width[1]) * 96 / 72) if width else 0)
    with Image.open(path) as image:
        if image.width <= PANEL_WIDTH:
            return Picture(_data_uri("webp", path.read_bytes()), description, False, image.width)
        size = (PANEL_WIDTH, round(image.height * PANEL_WIDTH / image.width))
        smaller = io.BytesIO()
        shrunk = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        shrunk.save(smaller, format="WEBP", quality=_PANEL_QUALITY, method=6)
    return Picture(_data_uri("webp", smaller.getvalue()), description, False, PANEL_WIDTH)


def embedded(path: Path) -> Markup | None:
    """The picture as a data URI, safe inside double quotes; None where there is no such file.

    SVG is percent-encoded without what is not drawn, which takes a quarter less room than base64; as an image, not as
    part of the page, it can neither run scripts nor share ids with other figures.
    """
    if not path.is_file():
        return None
    if path.suffix == ".svg":
        text = _NOT_DRAWN.sub("", path.read_text(encoding="utf-8")).replace('"', "'")
        text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").strip()
        # A hundredth of a point is finer than any screen; numbers below one are left alone, scales are among them.
        text = re.sub(r"(?<![\d.])([1-9]\d*\.\d\d)\d+", r"\1", text)
        return Markup("data:image/svg+xml," + quote(text, safe=_PLAIN))
    return _data_uri({".png": "png", ".webp": "webp"}[path.suffix], path.read_bytes())


def _data_uri(kind: str, content: bytes) -> Markup:
    return Markup(f"data:image/{kind};base64," + base64.b64encode(content).decode())


def pictures_of(folder: Path, names: Sequence[tuple[str, str]]) -> list[Picture]:
    found = (read_picture(folder / name, description) for name, description in names)
    return [picture for picture in found if picture is not None]


@dataclass(frozen=True)
class Example:
    """One case of a caption panel."""

    kind: str
    picture: Markup | None
    prediction: str
    references: tuple[str, ...]
    cider_d: float


@dataclass
class CellFigures:
    """One experiment's figures. `details` may be folded away, and are open where `is_open`; `left_out` names the
    folders of others, for which the page has no room; a dataset's best captioner has examples and the rule they were
    chosen by."""

    cell: str
    task: str
    pictures: list[Picture]
    details: list[Picture] = field(default_factory=list)
    is_open: bool = False
    left_out: list[str] = field(default_factory=list)
    rule: str = ""
    examples: tuple[Example, ...] = ()


@dataclass
class Room:
    """How many bytes are left."""

    num_bytes: int

    def take(self, pictures: Sequence[Picture]) -> bool:
        needed = sum(len(picture.source) for picture in pictures)
        fits = needed <= self.num_bytes
        self.num_bytes -= needed if fits else 0
        return fits

    def add(self, of: CellFigures, folder: Path, names: Sequence[tuple[str, str]], paths: Paths) -> None:
        """Adds all the pictures of one kind to a cell's details, or none of them."""
        pictures = pictures_of(folder, names)
        if not pictures:
            return
        if not of.left_out and self.take(pictures):
            of.details += pictures
        elif (where := folder.relative_to(paths.root).as_posix()) not in of.left_out:
            of.left_out.append(where)
