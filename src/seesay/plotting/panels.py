"""Panels of example images with text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seesay.core.files import write_json
from seesay.plotting.style import BLUE, GREY

_MARGIN, _GAP, _TEXT_SIZE, _TITLE_SIZE = 16, 14, 19, 22
_LINE = 26
_LOW_QUALITY = 50


@dataclass(frozen=True)
class Tile:
    """One image, and the lines of text under it, each as (text, colour)."""

    image: Image.Image
    lines: tuple[tuple[str, str], ...]


def draw_panel(
    path: Path,
    tiles: Sequence[Tile],
    *,
    title: str,
    columns: int,
    side: int,
    row_names: Sequence[str] = (),
    text_size: int = _TEXT_SIZE,
) -> None:
    """Write tiles row by row as WebP, each image scaled to fit a square of `side` pixels.

    `row_names`, where given, are written to the left of the rows. `text_size`, in pixels, is that of the lines under
    the images. Beside the picture, a JSON file of the same name has the texts and the places of the images, for pages:
    there, texts are text. Equal tiles give equal bytes.
    """
    spacing = text_size + _LINE - _TEXT_SIZE
    num_lines = max((len(tile.lines) for tile in tiles), default=0)
    left = _MARGIN + (max(int(font(_TEXT_SIZE).getlength(name)) for name in row_names) + _GAP if row_names else 0)
    titles = wrap(title, left - _MARGIN + columns * (side + _GAP) - _GAP, size=_TITLE_SIZE)
    top = _MARGIN + len(titles) * (_LINE + 4) + 6
    num_rows = -(-len(tiles) // columns)
    height = side + num_lines * spacing + _GAP
    canvas = Image.new("RGB", (left + columns * (side + _GAP) - _GAP + _MARGIN, top + num_rows * height), "white")
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(titles):
        pen.text((_MARGIN, _MARGIN + number * (_LINE + 4)), line, fill="black", font=font(_TITLE_SIZE))
    for row, name in enumerate(row_names):
        pen.text((_MARGIN, top + row * height + side // 2), name, fill=GREY, font=font(_TEXT_SIZE), anchor="lm")
    places: list[dict[str, Any] | None] = []
    for index, tile in enumerate(tiles):
        x, y = left + index % columns * (side + _GAP), top + index // columns * height
        is_blank = not tile.lines and tile.image.convert("L").getextrema() == (255, 255)
        places.append(None if is_blank else {"x": x, "y": y, "lines": [list(line) for line in tile.lines if line[0]]})
        canvas.paste(letterbox(tile.image, side), (x, y))
        for number, (text, colour) in enumerate(tile.lines):
            line = _shorten(text, side, size=text_size)
            pen.text((x, y + side + 4 + number * spacing), line, fill=colour, font=font(text_size))
    save_webp(path, canvas)
    layout = {"title": title, "side": side, "columns": columns, "row_names": list(row_names), "tiles": places}
    write_json(path.with_suffix(".json"), layout)


def draw_caption_panel(
    path: Path, images: Sequence[Image.Image], texts: Sequence[tuple[str, str, Sequence[str]]], *, title: str
) -> None:
    """Write square images of equal size, two in a row, with their captions as WebP.

    `texts` holds (note, prediction, references) of each image. A reference that is too long ends in an ellipsis.
    """
    side, width = images[0].height, 430
    columns = min(2, len(images))
    across = columns * (side + width + 2 * _GAP) + 2 * _MARGIN
    titles = wrap(title, across - 2 * _MARGIN, size=_TITLE_SIZE)
    top = _MARGIN + len(titles) * (_LINE + 4) + 6
    num_rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (across, top + num_rows * (side + _GAP) + _MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(titles):
        pen.text((_MARGIN, _MARGIN + number * (_LINE + 4)), line, fill="black", font=font(_TITLE_SIZE))
    for index, (image, (note, prediction, references)) in enumerate(zip(images, texts, strict=True)):
        x = _MARGIN + index % columns * (side + width + 2 * _GAP)
        y = top + index // columns * (side + _GAP)
        canvas.paste(image, (x, y))
        lines = [(note, GREY), *((line, BLUE) for line in wrap(prediction, width, size=_TEXT_SIZE)[:3])]
        lines += [(reference, "black") for reference in references]
        for number, (line, colour) in enumerate(lines[: side // _LINE]):
            position = (x + side + _GAP, y + number * _LINE)
            pen.text(position, _shorten(line, width, size=_TEXT_SIZE), fill=colour, font=font(_TEXT_SIZE))
    save_webp(path, canvas)


def letterbox(image: Image.Image, side: int) -> Image.Image:
    """Scale the image to fit a square of `side` pixels, keeping its aspect ratio, centred on white."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (side, side), "white")
    square.paste(
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2)
    )
    return square


def from_array(pixels: np.ndarray) -> Image.Image:
    """Convert uint8 (H, W, 3) pixels to an image."""
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.ndim == 3, pixels.shape
    return Image.fromarray(np.ascontiguousarray(pixels), "RGB")


def save_webp(path: Path, image: Image.Image) -> None:
    image.save(path, format="WEBP", quality=82, method=4)


def recompress(path: Path) -> None:
    """Rewrite a WebP picture at a lower quality, which takes a third of the bytes."""
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    pixels.save(path, format="WEBP", quality=_LOW_QUALITY, method=6)


def wrap(text: str, width: int, *, size: int) -> list[str]:
    """Break `text` at spaces into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and font(size).getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Load the font that comes with matplotlib, which is the same on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _shorten(text: str, width: int, *, size: int) -> str:
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
