"""What are one classifier's probabilities worth? ROC curves, and whether confidence is accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from seesay.evaluation.calibration import Reliability, fit_temperature, reliability, scaled
from seesay.evaluation.class_predictions import ClassPredictions, SplitPredictions
from seesay.evaluation.roc import macro_curve, one_vs_rest
from seesay.reporting.drawing import BLUE, GREY, ORANGE, SKY, VERMILION, drawn

_FEW = 20


def draw_roc(path: Path, split: SplitPredictions, classes: Sequence[str], *, title: str) -> None:
    """The mean curve over the classes, and the curves of the two classes with the largest and the smallest areas.

    Of equal areas the first class's counts as larger. Where no class can be measured the axes say so.
    """
    curves = one_vs_rest(split)
    with drawn(path, width=5.4, height=4.6) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance, area 0.500")
        if curves:
            ranked = sorted(curves, key=lambda index: -curves[index].area)
            named = [(macro_curve(list(curves.values())), f"mean of {len(curves)} classes", "black", "-", 2.0)]
            # The outer of the two best and of the two worst drawn solid, the inner dashed.
            last = len(ranked) - 1
            styles = {0: (BLUE, "-"), 1: (SKY, "--"), last - 1: (ORANGE, "--"), last: (VERMILION, "-")}
            places = sorted({0, min(1, last), max(0, last - 1), last})
            named += [(curves[ranked[place]], classes[ranked[place]], *styles[place], 1.5) for place in places]
            for curve, name, colour, line, width in named:
                axes.plot(
                    curve.false_positives,
                    curve.true_positives,
                    color=colour,
                    linestyle=line,
                    linewidth=width,
                    label=f"{name}, area {curve.area:.3f}",
                )
            handles, labels = axes.get_legend_handles_labels()
            axes.legend([*handles[1:], handles[0]], [*labels[1:], labels[0]], loc="lower right")
        else:
            axes.text(0.5, 0.5, "no class has images beside others", ha="center", va="center")
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.set_xlabel("false positive rate: share of the other classes' images")
        axes.set_ylabel("true positive rate: share of the class's images")
        axes.set_title(f"{title}\nROC on test, a class against the rest")


def draw_reliability(path: Path, predictions: ClassPredictions, *, title: str) -> None:
    """Accuracy over confidence on test, and how many images have which confidence, before and after the temperature
    that val asks for."""
    temperature = fit_temperature(predictions.val)
    before, after = reliability(predictions.test), reliability(scaled(predictions.test, temperature))
    with drawn(path, width=5.4, height=4.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1.2, label="confidence is accuracy")
        for found, name, colour, marker in (
            (before, "as trained", VERMILION, "o"),
            (after, f"temperature {temperature:.2f} (from val)", BLUE, "s"),
        ):
            label = f"{name}: ECE {100 * found.error:.1f} %"
            _draw_accuracy(upper, found, colour=colour, marker=marker, label=label)
            edges = 100 * np.linspace(0, 1, len(found.counts) + 1)
            lower.stairs(found.counts, edges, color=colour, linewidth=1.5)
        upper.plot([], [], "o", color=GREY, markerfacecolor="white", label=f"hollow: fewer than {_FEW} images")
        upper.legend(loc="best")
        upper.set(ylim=(-3, 103), xlim=(0, 100), ylabel="accuracy, percent")
        lower.set(ylabel="test images", xlabel="confidence: probability of the class predicted, percent")
        upper.set_title(f"{title}\nReliability on test, {len(before.counts)} bins")


def _draw_accuracy(axes: Axes, found: Reliability, *, colour: str, marker: str, label: str) -> None:
    used = found.counts > 0
    x, y, many = 100 * found.confidence[used], 100 * found.accuracy[used], found.counts[used] >= _FEW
    axes.plot(x, y, color=colour, linewidth=1.2, marker=marker, markersize=5, label=label)
    axes.plot(x[~many], y[~many], color=colour, linestyle="none", marker=marker, markersize=5, markerfacecolor="white")
