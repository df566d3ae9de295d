"""The ranking of classifiers by accuracy, with intervals and published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seesay.params.classification import PRETRAINED
from seesay.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY, new_figure
from seesay.plotting.table import CHANCE

_FROM_SCRATCH = ("from scratch", BLUE, "o")
_PRETRAINED = ("from ImageNet weights", GREEN, "^")


def draw_ranking(path: Path, rows: Sequence[Mapping[str, Any]], *, dataset: str) -> None:
    """Draw a line per classifier of `dataset`, from the best down: test top-1 with its 95 % interval.

    Classifiers with several seeds also get mean and standard deviation. Published results are hollow marks, and
    chance is a vertical line.
    """
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    ranked = sorted((row for row in of_dataset if row["cell"] != CHANCE), key=lambda row: -row["test/top1"])
    chance = next((row["test/top1"] for row in of_dataset if row["cell"] == CHANCE), None)
    with new_figure(path, width=8.4, height=0.3 * len(ranked) + 1.5) as figure:
        axes = figure.subplots()
        labelled: set[str] = set()

        def once(label: str) -> str:
            is_new = label not in labelled
            labelled.add(label)
            return label if is_new else "_" + label

        for rank, row in enumerate(ranked):
            top1 = 100 * row["test/top1"]
            low, high = (100 * row.get(key, row["test/top1"]) for key in ("test/top1_low", "test/top1_high"))
            if "source" in row:
                axes.plot(
                    *(top1, rank, "D"), color=GREY, markerfacecolor="white", markersize=6, label=once("published")
                )
            else:
                axes.plot([low, high], [rank, rank], color=SKY, linewidth=3, label=once("95 % interval"))
                is_pretrained = row["architecture"] == PRETRAINED
                name, colour, marker = _PRETRAINED if is_pretrained else _FROM_SCRATCH
                axes.plot(*(top1, rank, marker), color=colour, markersize=7, label=once(name))
            if "seeds/test/top1_mean" in row:
                axes.errorbar(
                    *(100 * row["seeds/test/top1_mean"], rank + 0.3),
                    xerr=100 * row["seeds/test/top1_std"],
                    color=ORANGE,
                    marker="s",
                    markersize=4,
                    capsize=3,
                    linestyle="none",
                    label=once("mean and standard deviation over seeds"),
                )
            axes.annotate(
                f"{top1:.1f}", (high, rank), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
            )
        if chance is not None:
            label = f"chance ({100 * chance:.1f} %)"
            axes.axvline(100 * chance, color=GREY, linestyle="--", linewidth=1.2, label=label)
        axes.set_yticks(range(len(ranked)), [row["cell"] for row in ranked])
        for tick, row in zip(axes.get_yticklabels(), ranked, strict=True):
            tick.set_color(GREY if "source" in row else "black")
        axes.set(ylim=(len(ranked) - 0.4, -0.6), xlabel="test top-1 accuracy, percent")
        highest = max((100 * row.get("test/top1_high", row["test/top1"]) for row in ranked), default=100)
        axes.set_xlim(0, min(106, 1.08 * highest + 2))
        axes.grid(visible=False, axis="y")
        figure.suptitle(f"{dataset}: classifiers by accuracy", x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.legend(loc="outside lower center", ncols=3)
