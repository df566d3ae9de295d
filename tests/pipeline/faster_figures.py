"""Importing this module makes Matplotlib draw figures without constrained layout, which takes as long as drawing them.

Figures still show all their data. Tests of the pipeline look at their bytes only, never at where things are.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


def _leave_as_it_is(engine: ConstrainedLayoutEngine, fig: Figure) -> None:
    """Move nothing."""


assert callable(ConstrainedLayoutEngine.execute)
ConstrainedLayoutEngine.execute = _leave_as_it_is  # type: ignore[method-assign]
