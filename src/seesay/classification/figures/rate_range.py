"""What does a learning-rate range test suggest? Its table, its figure and the rates worth trying."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import LogLocator, NullFormatter

from seesay.core.files import write_bytes, write_text
from seesay.core.paths import Paths
from seesay.plotting.style import BLUE, GREEN, GREY, VERMILION, drawn

if TYPE_CHECKING:
    from seesay.classification.rate_range import CellRange, RateRange

SHARE_OF_LOWEST = 0.1
"""Where the loss is lowest, learning has already become erratic: a tenth of that rate is a usual peak (as fastai's
`lr_find` suggests it, beside the rate where the loss falls fastest)."""

_ROWS = 15


def report_rate_range(paths: Paths, cell: str, tested: CellRange) -> str:
    """Writes `.work/learning_rates/<cell>.csv` and `.svg`; returns what to print: some of the rows, then the rates."""
    folder = paths.scratch / "learning_rates"
    table, figure = folder / f"{cell}.csv", folder / f"{cell}.svg"
    write_text(table, _csv(tested.found))
    with tempfile.TemporaryDirectory() as scratch:
        drawn_at = Path(scratch) / figure.name
        draw_rate_range(drawn_at, tested.found, peak=tested.peak, title=f"{cell}: learning-rate range test")
        write_bytes(figure, drawn_at.read_bytes())
    files = " and ".join(str(path.relative_to(paths.root)) for path in (table, figure))
    return "\n".join([*_describe(cell, tested), f"written: {files}"])


def draw_rate_range(path: Path, found: RateRange, *, peak: float, title: str) -> None:
    """Each step's loss and the smoothed loss over the rate; marked are the rates that they suggest and `peak`, the one
    in params.yaml, where it lies within the range."""
    with drawn(path, width=6.4, height=4.2) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.plot(
            found.rates, found.losses, color=GREY, marker=".", markersize=4, linestyle="none", label="loss of a step"
        )
        axes.plot(found.rates, found.smoothed, color=BLUE, linewidth=1.8, label="smoothed")
        marks = (
            (found.steepest_at, GREEN, "--", "loss falls fastest"),
            (SHARE_OF_LOWEST * found.lowest_at, VERMILION, "-", "a tenth of the lowest"),
            (found.lowest_at, GREY, ":", "loss is lowest"),
            (peak, "black", "-.", "set in params.yaml"),
        )
        for rate, colour, style, name in marks:
            if rate is not None and found.rates[0] <= rate <= found.rates[-1]:
                axes.axvline(rate, color=colour, linestyle=style, linewidth=1.3, label=f"{name}: {rate:.2g}")
        lowest = min(found.smoothed)
        highest = max(found.smoothed[: found.smoothed.index(lowest) + 1])
        room = max(highest - lowest, 0.1 * abs(lowest))
        axes.set_ylim(lowest - 0.3 * room, highest + 0.6 * room)  # a loss that diverges leaves the figure
        axes.set(xlabel="learning rate (log scale)", ylabel="training loss")
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own writes its labels as formulas
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _csv(found: RateRange) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "learning_rate", "loss", "smoothed_loss"])
    rows = zip(found.rates, found.losses, found.smoothed, strict=True)
    writer.writerows([step, *row] for step, row in enumerate(rows, start=1))
    return text.getvalue()


def _describe(cell: str, tested: CellRange) -> list[str]:
    found, side = tested.found, tested.image_size
    num_steps = len(found.rates)
    lines = [
        f"{cell}: {num_steps} steps of {tested.images_per_step} training images of {tested.dataset}, {side}x{side}",
        f"{'learning rate':>13}  {'loss':>9}  {'smoothed':>9}",
    ]
    last = num_steps - 1
    shown = sorted({round(row * last / (_ROWS - 1)) for row in range(_ROWS)})
    lines += [f"{found.rates[i]:13.3g}  {found.losses[i]:9.4g}  {found.smoothed[i]:9.4g}" for i in shown]
    if found.stopped is not None:
        lines.append(f"stopped early: {found.stopped}")
    if found.steepest_at is None:
        return [*lines, "no rate to suggest: the loss never fell; start lower (--low), or look at the cell"]
    tenth = SHARE_OF_LOWEST * found.lowest_at
    lines.append(f"peak rate to try: {tenth:.2g} (a tenth of {found.lowest_at:.2g}, where the loss is lowest) or "
                 f"{found.steepest_at:.2g} (where it falls fastest); params.yaml has {tested.peak:g}")  # fmt: skip
    if found.falls_to_the_end:
        lines.append("the loss falls up to the last rate: a higher --high may say more")
    return lines
