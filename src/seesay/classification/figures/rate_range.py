"""The report of a learning-rate range test: table, figure and suggested rates."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import LogLocator, NullFormatter

from seesay.core.files import write_bytes, write_text
from seesay.core.paths import Paths
from seesay.plotting.style import BLUE, GREEN, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from seesay.classification.rate_range import RangeTest, RateRange

_NUM_ROWS = 15
_COLOURS = (GREEN, VERMILION)


def report_rate_range(paths: Paths, cell: str, test: RangeTest) -> str:
    """Write `.work/learning_rates/<cell>.csv` and `.svg`; return a summary to print: some rows, then the rates."""
    folder = paths.scratch / "learning_rates"
    table, figure = folder / f"{cell}.csv", folder / f"{cell}.svg"
    write_text(table, _csv(test.result))
    with tempfile.TemporaryDirectory() as scratch:
        new_figure = Path(scratch) / figure.name
        draw_rate_range(new_figure, test.result, peak=test.peak, title=f"{cell}: learning-rate range test")
        write_bytes(figure, new_figure.read_bytes())
    files = " and ".join(str(path.relative_to(paths.root)) for path in (table, figure))
    return "\n".join([*_summarise(cell, test), f"written: {files}"])


def draw_rate_range(path: Path, result: RateRange, *, peak: float, title: str) -> None:
    """Draw each step's loss and the smoothed loss over the rate.

    The suggested rates are marked, and so is `peak`, the rate in params.yaml, if it lies within the range.
    """
    with new_figure(path, width=6.4, height=4.2) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.plot(
            result.rates, result.losses, color=GREY, marker=".", markersize=4, linestyle="none", label="loss of a step"
        )
        axes.plot(result.rates, result.smoothed, color=BLUE, linewidth=1.8, label="smoothed")
        marks = [
            *((r, colour, "--", name) for (name, r), colour in zip(result.suggested.items(), _COLOURS, strict=False)),
            (result.lowest_at, GREY, ":", "loss is lowest"),
            (peak, "black", "-.", "in params.yaml"),
        ]
        for rate, colour, style, name in marks:
            if result.rates[0] <= rate <= result.rates[-1]:
                axes.axvline(rate, color=colour, linestyle=style, linewidth=1.3, label=f"{name}: {rate:.2g}")
        lowest = min(result.smoothed)
        highest = max(result.smoothed[: result.smoothed.index(lowest) + 1])
        room = max(highest - lowest, 0.1 * abs(lowest))
        axes.set_ylim(lowest - 0.3 * room, highest + 0.6 * room)  # cuts off a loss that diverges
        axes.set(xlabel="learning rate (log scale)", ylabel="training loss")
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())  # matplotlib's own formats its labels as formulas
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _csv(result: RateRange) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "learning_rate", "loss", "smoothed_loss"])
    rows = zip(result.rates, result.losses, result.smoothed, strict=True)
    writer.writerows([step, *row] for step, row in enumerate(rows, start=1))
    return text.getvalue()


def _summarise(cell: str, test: RangeTest) -> list[str]:
    result, side = test.result, test.image_size
    num_steps = len(result.rates)
    lines = [
        f"{cell}: {num_steps} steps of {test.images_per_step} training images of {test.dataset}, {side}x{side}",
        f"{'learning rate':>13}  {'loss':>9}  {'smoothed':>9}",
    ]
    last = num_steps - 1
    steps = sorted({round(row * last / (_NUM_ROWS - 1)) for row in range(_NUM_ROWS)})
    lines += [f"{result.rates[i]:13.3g}  {result.losses[i]:9.4g}  {result.smoothed[i]:9.4g}" for i in steps]
    if result.stopped is not None:
        lines.append(f"stopped early: {result.stopped}")
    first, lowest = result.smoothed[0], min(result.smoothed)
    if result.steepest_at is None:
        return [*lines, "no suggested rate: the loss never fell; start lower (--low), or check the experiment"]
    if result.is_flat:
        return [*lines, f"no suggested rate: the loss is flat (from {first:.4g} to {lowest:.4g}: less than 1 % or less "
                "than it varies from step to step); try a higher --high, or check the experiment"]  # fmt: skip
    suggested = " or ".join(f"{rate:.2g} ({reason})" for reason, rate in result.suggested.items())
    lines.append(f"suggested peak rate: {suggested}; params.yaml has {test.peak:g}")
    if len(result.suggested) == 1:
        lines.append(
            f"a tenth of {result.lowest_at:.2g}, where the loss is lowest, is below the first rate: try a lower --low"
        )
    if result.falls_to_the_end:
        lines.append("the loss falls up to the last rate: try a higher --high")
    return lines
