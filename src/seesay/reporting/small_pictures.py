"""How the panels of autoencoders are kept small enough for a page that shows those of every cell."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

_QUALITY = 50


def make_small(path: Path) -> None:
    """Writes a WebP picture again, at a quality at which it takes a third of the room."""
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    pixels.save(path, format="WEBP", quality=_QUALITY, method=6)
