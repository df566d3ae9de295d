"""Drawing of shapes and scenes, with antialiasing and noise."""

from __future__ import annotations

import colorsys
import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from seesay.core.files import atomic_path

Point = tuple[float, float]
Role = Literal["body", "accent", "dark"]
"""The choice of one of a thing's three colours for a part."""


@dataclass(frozen=True)
class Part:
    """A filled polygon, or an open line where `width` (in units of the square) is not 0."""

    role: Role
    points: tuple[Point, ...]
    width: float = 0.0


def _polygon(role: Role, *points: Point) -> Part:
    return Part(role, points)


def _line(role: Role, width: float, *points: Point) -> Part:
    return Part(role, points, width)


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 20) -> tuple[Point, ...]:
    """Return points on an ellipse from `start` to `end` degrees, clockwise on the screen, where 0 is right."""
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return tuple((x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles)


def _disc(role: Role, x: float, y: float, rx: float, ry: float | None = None) -> Part:
    return Part(role, _arc(x, y, rx, rx if ry is None else ry, 0, 360))


def _ring(role: Role, width: float, x: float, y: float, radius: float) -> Part:
    return Part(role, _arc(x, y, radius, radius, 0, 378, 21), width)  # 378 degrees: the overlap closes the seam


def _star(points: int, inner: float) -> tuple[Point, ...]:
    corners = []
    for corner in range(2 * points):
        radius, angle = (1.0, inner)[corner % 2], math.pi * (corner / points - 0.5)
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return tuple(corners)


SHAPES: dict[str, tuple[Part, ...]] = {
    "bicycle": (
        _ring("dark", 0.12, -0.55, 0.35, 0.4),
        _ring("dark", 0.12, 0.55, 0.35, 0.4),
        _line("body", 0.13, (-0.55, 0.35), (-0.2, -0.25), (0.4, -0.25), (0.0, 0.35), (-0.55, 0.35)),
        _line("body", 0.13, (-0.2, -0.25), (0.0, 0.35)),
        _line("body", 0.13, (0.55, 0.35), (0.35, -0.5)),
        _line("dark", 0.12, (0.15, -0.55), (0.55, -0.5)),
        _line("dark", 0.14, (-0.4, -0.4), (-0.05, -0.4)),
    ),
    "boat": (
        _polygon("body", (-0.95, 0.35), (0.95, 0.35), (0.6, 0.8), (-0.6, 0.8)),
        _line("dark", 0.1, (0.0, 0.35), (0.0, -0.9)),
        _polygon("accent", (0.08, -0.85), (0.08, 0.2), (0.75, 0.2)),
        _polygon("accent", (-0.08, -0.6), (-0.08, 0.2), (-0.6, 0.2)),
    ),
    "car": (
        _polygon("body", (-0.55, -0.05), (-0.35, -0.5), (0.3, -0.5), (0.55, -0.05)),
        _polygon("body", (-0.95, -0.1), (0.85, -0.1), (0.95, 0.1), (0.95, 0.4), (-0.95, 0.4)),
        _polygon("accent", (-0.4, -0.1), (-0.26, -0.4), (-0.05, -0.4), (-0.05, -0.1)),
        _polygon("accent", (0.05, -0.1), (0.05, -0.4), (0.24, -0.4), (0.38, -0.1)),
        _disc("dark", -0.5, 0.42, 0.24),
        _disc("dark", 0.5, 0.42, 0.24),
    ),
    "cat": (
        _polygon("body", (-0.75, -0.9), (-0.1, -0.5), (-0.7, 0.1)),
        _polygon("body", (0.75, -0.9), (0.1, -0.5), (0.7, 0.1)),
        _disc("body", 0.0, 0.1, 0.75, 0.68),
        _disc("accent", -0.3, -0.05, 0.15, 0.12),
        _disc("accent", 0.3, -0.05, 0.15, 0.12),
        _polygon("dark", (-0.1, 0.22), (0.1, 0.22), (0.0, 0.36)),
        _line("dark", 0.06, (-0.25, 0.42), (0.0, 0.52), (0.25, 0.42)),
        _line("dark", 0.04, (-0.3, 0.3), (-0.95, 0.2)),
        _line("dark", 0.04, (0.3, 0.3), (0.95, 0.2)),
    ),
    "cup": (
        _ring("body", 0.15, 0.55, 0.05, 0.32),
        _polygon("body", (-0.65, -0.55), (0.55, -0.55), (0.4, 0.75), (-0.5, 0.75)),
        _disc("dark", -0.05, -0.55, 0.6, 0.16),
        _polygon("accent", (-0.61, -0.15), (0.5, -0.15), (0.47, 0.15), (-0.58, 0.15)),
    ),
    "fish": (
        _polygon("body", (0.4, 0.0), (0.95, -0.5), (0.85, 0.0), (0.95, 0.5)),
        _disc("body", -0.2, 0.0, 0.75, 0.45),
        _polygon("accent", (-0.3, -0.4), (0.2, -0.75), (0.25, -0.3)),
        _polygon("accent", (0.0, 0.05), (0.3, 0.3), (-0.05, 0.3)),
        _disc("dark", -0.6, -0.1, 0.09),
    ),
    "house": (
        _polygon("body", (-0.65, -0.1), (0.65, -0.1), (0.65, 0.85), (-0.65, 0.85)),
        _polygon("dark", (-0.9, -0.05), (0.0, -0.85), (0.9, -0.05)),
        _polygon("accent", (-0.15, 0.35), (0.2, 0.35), (0.2, 0.85), (-0.15, 0.85)),
        _polygon("accent", (-0.5, 0.1), (-0.25, 0.1), (-0.25, 0.35), (-0.5, 0.35)),
    ),
    "star": (Part("body", _star(5, 0.42)), _disc("accent", 0.0, 0.0, 0.2)),
    "tree": (
        _polygon("dark", (-0.14, 0.3), (0.14, 0.3), (0.18, 0.95), (-0.18, 0.95)),
        _disc("body", -0.35, 0.05, 0.42),
        _disc("body", 0.35, 0.05, 0.42),
        _disc("body", 0.0, -0.45, 0.48),
        _disc("accent", -0.2, -0.3, 0.09),
        _disc("accent", 0.3, 0.05, 0.09),
    ),
    "umbrella": (
        Part("body", (*_arc(0.0, 0.1, 0.95, 0.9, 180, 360), (0.65, -0.05), (0.32, 0.1), (0.0, -0.05), (-0.32, 0.1))),
        _polygon("accent", (0.0, -0.8), (0.32, 0.08), (0.0, -0.05), (-0.32, 0.08)),
        _line("dark", 0.1, (0.0, -0.05), (0.0, 0.7), (-0.08, 0.85), (-0.22, 0.85), (-0.3, 0.7)),
    ),
}


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
