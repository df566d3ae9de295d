"""Drawing and storing of generated scenes: things, backgrounds, clutter, JPEG, zip. Equal seeds give equal bytes."""

from __future__ import annotations

import colorsys
import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from seesay.core.files import atomic_path
from seesay.scenes.shapes import SHAPES, Point, Role

Colour = tuple[int, int, int]

SUPERSAMPLING = 4
"""Images are drawn this many times larger and then averaged, because Pillow draws hard edges only."""
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Pose:
    """The placement of a thing: centre and half its side in pixels of the final image, rotation, slant, mirroring."""

    x: float
    y: float
    radius: float
    radians: float = 0.0
    slant: float = 0.0
    is_mirrored: bool = False


class Canvas:
    """A square image under construction, `size` pixels wide when finished."""

    def __init__(self, background: np.ndarray) -> None:
        """Start with `background`: float (size, size, 3), 0 to 255."""
        self.size = len(background)
        side = self.size * SUPERSAMPLING
        image = Image.fromarray(np.clip(background, 0, 255).astype(np.uint8))
        self.image = image.resize((side, side), Image.Resampling.NEAREST)
        self.draw = ImageDraw.Draw(self.image)

    def thing(self, name: str, pose: Pose, colours: Mapping[Role, Colour]) -> None:
        for part in SHAPES[name]:
            points = _placed(part.points, pose)
            if part.width:
                width = max(1, round(part.width * pose.radius * SUPERSAMPLING))
                self.draw.line(points, fill=colours[part.role], width=width, joint="curve")
            else:
                self.draw.polygon(points, fill=colours[part.role])

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        self.draw.polygon([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=colour)

    def line(self, points: Iterable[Point], colour: Colour, width: float) -> None:
        scaled = [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * SUPERSAMPLING)), joint="curve")

    def finished(self, *, noise: float, rng: np.random.Generator) -> Image.Image:
        """Return the image at its final size, with Gaussian noise of standard deviation `noise`."""
        pixels = np.asarray(self.image.reduce(SUPERSAMPLING), dtype=np.float32)
        pixels = pixels + noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


def _placed(points: tuple[Point, ...], pose: Pose) -> list[Point]:
    cosine, sine = np.cos(pose.radians), np.sin(pose.radians)
    placed = []
    for x, y in points:
        x = (-x if pose.is_mirrored else x) + pose.slant * y
        placed.append(
            (
                float((pose.x + pose.radius * (cosine * x - sine * y)) * SUPERSAMPLING),
                float((pose.y + pose.radius * (sine * x + cosine * y)) * SUPERSAMPLING),
            )
        )
    return placed


def random_colour(rng: np.random.Generator) -> Colour:
    """Return a random colour of any hue, with at least some saturation and brightness."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.15, 1), rng.uniform(0.25, 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def cloudy(size: int, first: Colour, second: Colour, *, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Return a background of `cells` x `cells` soft patches between two colours: float (size, size, 3)."""
    coarse = Image.fromarray(rng.uniform(0, 1, (cells, cells)).astype(np.float32))
    mix = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))[..., None]
    blended: np.ndarray = np.asarray(first) * (1 - mix) + np.asarray(second) * mix
    return blended


def jpeg_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip archive whose bytes depend on names and contents only.

    Dates are fixed. Members are not compressed, because JPEG does not compress further.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, on every machine
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
