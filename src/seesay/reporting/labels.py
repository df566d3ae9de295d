"""Where do the names of points go so that they hide neither each other nor a point?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

# (x, y) of the text from its point in points, then how it is aligned there; in order of preference.
_PLACES = tuple(
    (dx * reach, dy * reach, {-1: "right", 0: "center", 1: "left"}[dx], {-1: "top", 0: "center", 1: "bottom"}[dy])
    for reach in (6, 14, 24, 36, 50)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
)
_POINT_RADIUS = 6.0


def label_points(
    figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]], *, fontsize: float = 8.0
) -> list[Annotation]:
    """Names each (x, y, name) beside its point, inside the axes; names that had to move away get a thin line.

    Call it last: what is drawn, and the figure's layout, must not change afterwards. Each name takes the first place
    that is free; where none is, the one that hides least.
    """
    figure.draw_without_rendering()  # lays the figure out: only then is it known where a point comes to lie
    scale = figure.dpi / 72
    centres = [axes.transData.transform((x, y)) for x, y, _ in points]
    radius = _POINT_RADIUS * scale
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in centres]
    inside = axes.get_window_extent()
    labels = []
    for number in sorted(range(len(points)), key=lambda index: -points[index][1]):
        x, y, name = points[number]
        # On white, above lines that it may cross and below the points.
        white = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
        label = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=fontsize, bbox=white)
        label.set_zorder(1.5)
        label.set_in_layout(False)
        others = [box for index, box in enumerate(taken) if index != number]
        best, least = _PLACES[0], float("inf")
        for place in _PLACES:
            _put(label, place)
            hidden = _hidden(label.get_window_extent(), others, inside)
            if hidden < least:
                best, least = place, hidden
            if hidden == 0:
                break
        _put(label, best)
        taken.append(label.get_window_extent())
        if max(abs(best[0]), abs(best[1])) > _PLACES[0][0]:
            line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            leader = axes.annotate("", (x, y), best[:2], textcoords="offset points", arrowprops=line)
            leader.set_in_layout(False)
        labels.append(label)
    return labels


def _put(label: Annotation, place: tuple[float, float, str, str]) -> None:
    dx, dy, horizontal, vertical = place
    label.set_position((dx, dy))
    label.set(ha=horizontal, va=vertical)


def _hidden(box: Bbox, others: Sequence[Bbox], inside: Bbox) -> float:
    """The area, in square pixels, that `box` shares with others or has outside of `inside`."""
    shared = sum(_area(Bbox.intersection(box, other)) for other in others)
    return shared + box.width * box.height - _area(Bbox.intersection(box, inside))


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else abs(box.width * box.height)
