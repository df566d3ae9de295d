"""Shapes of the things in generated scenes: parts in a square from -1 to 1, y pointing down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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
