"""Pictures embedded in a page, so that the page opens without any other file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

from seesay.core.files import read_json
from seesay.plotting.style import BLUE, GREY, VERMILION

PANEL_WIDTH = 800
"""Largest width in pixels of panels of photographs on a page; the files keep their size."""

TILE_SIDE = 96
"""Largest side in pixels of an image in a panel on a page."""

_PANEL_QUALITY = 42
_MEANINGS = {BLUE: "right", VERMILION: "wrong", GREY: "quiet"}
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

    @property
    def size(self) -> int:
        """The bytes that it takes on a page."""
        return len(self.source)


@dataclass(frozen=True)
class PanelTile:
    """One image of a panel: its column and row, its row's name, and the lines of text under it, as (text, meaning).

    The meaning is `right`, `wrong`, `quiet` or nothing.
    """

    column: int
    row: int
    row_name: str
    lines: tuple[tuple[str, str], ...]

    @property
    def description(self) -> str:
        """The alternative text."""
        return ", ".join(text for text in (self.row_name, *(line for line, _ in self.lines)) if text) or "image"


@dataclass(frozen=True)
class Panel:
    """A panel of photographs on a page: one picture, `source`, of all images without gaps, and the tiles in it."""

    source: Markup
    description: str
    title: str
    columns: int
    rows: int
    row_names: tuple[str, ...]
    tiles: tuple[PanelTile, ...]

    @property
    def size(self) -> int:
        """An upper estimate of the bytes that it takes on a page."""
        return len(self.source) + 260 * len(self.tiles) + sum(2 * len(tile.description) for tile in self.tiles)


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

    `details` are those that need not fit; `left_out` describes the ones that do not. A dataset's best captioner has
    `examples`, and the `rule` they were chosen by.
    """

    cell: str
    task: str
    pictures: list[Picture | Panel]
    details: list[Picture | Panel] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    rule: str = ""
    examples: tuple[Example, ...] = ()


@dataclass
class SizeBudget:
    """The bytes that are left for pictures on a page."""

    num_bytes: int

    def take(self, pictures: Sequence[Picture | Panel]) -> bool:
        """Reserve the bytes of `pictures`; returns false, and reserves none, where they do not fit."""
        needed = sum(picture.size for picture in pictures)
        fits = needed <= self.num_bytes
        self.num_bytes -= needed if fits else 0
        return fits

    def add(self, figures: ExperimentFigures, folder: Path, names: Sequence[tuple[str, str]]) -> None:
        """Add all the pictures of one kind to an experiment's details, or none of them."""
        if not any((folder / name).is_file() for name, _ in names):
            return
        pictures = [] if figures.left_out else read_pictures(folder, names)
        if pictures and self.take(pictures):
            figures.details += pictures
        else:
            figures.left_out += [description for name, description in names if (folder / name).is_file()]


def read_picture(path: Path, description: str) -> Picture | Panel | None:
    """Read the figure at `path` for a page; None where there is none.

    For a plot (`.svg`) the WebP beside it is used where there is one, as it takes a quarter of the bytes. A panel of
    photographs becomes images with text, where the file beside it says where they are; any other is reduced to at most
    PANEL_WIDTH pixels.
    """
    if not path.is_file():
        return None
    if path.suffix == ".webp" and path.with_suffix(".json").is_file():
        return _read_panel(path, description)
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


def _read_panel(path: Path, description: str) -> Panel:
    layout = read_json(path.with_suffix(".json"))
    columns, names = layout["columns"], layout["row_names"]
    side = min(TILE_SIDE, layout["side"])
    rows = -(-len(layout["tiles"]) // columns)
    sprite = Image.new("RGB", (columns * side, rows * side), "white")
    tiles = []
    for index, (image, lines) in enumerate(_panel_tiles(path, layout)):
        if image is not None:
            row, column = divmod(index, columns)
            sprite.paste(image.resize((side, side), Image.Resampling.LANCZOS), (column * side, row * side))
            tiles.append(PanelTile(column, row, names[row] if names else "", lines))
    source = _encode_image(sprite)
    return Panel(source, description, layout["title"], columns, rows, tuple(names), tuple(tiles))


def read_tiles(path: Path, *, num_rows: int) -> list[tuple[Markup, str]]:
    """Return the first image of a panel's first rows with its text, as (data URI, text); empty without such a panel."""
    if not (path.is_file() and path.with_suffix(".json").is_file()):
        return []
    layout = read_json(path.with_suffix(".json"))
    names, columns = layout["row_names"], layout["columns"]
    tiles = list(_panel_tiles(path, layout))[: num_rows * columns : columns]
    return [
        (_encode_image(image), " · ".join(line for line, _ in lines) or (names[row] if names else ""))
        for row, (image, lines) in enumerate(tiles)
        if image is not None
    ]


def _panel_tiles(
    path: Path, layout: Mapping[str, Any]
) -> Iterator[tuple[Image.Image | None, tuple[tuple[str, str], ...]]]:
    """Yield each tile's image, None for a blank one, and its lines."""
    side = layout["side"]
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    for tile in layout["tiles"]:
        if tile is None:
            yield None, ()
        else:
            x, y = tile["x"], tile["y"]
            lines = tuple((text, _MEANINGS.get(colour, "")) for text, colour in tile["lines"])
            yield pixels.crop((x, y, x + side, y + side)), lines


def _encode_image(image: Image.Image) -> Markup:
    content = io.BytesIO()
    image.save(content, format="WEBP", quality=_PANEL_QUALITY, method=4)
    return _encode_base64("webp", content.getvalue())


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


def read_pictures(folder: Path, names: Sequence[tuple[str, str]]) -> list[Picture | Panel]:
    """Read the pictures (file name, description) that exist in `folder`."""
    pictures = (read_picture(folder / name, description) for name, description in names)
    return [picture for picture in pictures if picture is not None]


def _encode_base64(kind: str, content: bytes) -> Markup:
    return Markup(f"data:image/{kind};base64," + base64.b64encode(content).decode())
