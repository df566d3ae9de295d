"""Formatting of metrics: fractions as percent, CIDEr-D as a decimal, PSNR in decibels."""

from __future__ import annotations

import math
import re

_FRACTIONS = (
    *("top1", "top1_low", "top1_high", "top1_flipped", "top1_views", "top1_mean", "top1_std", "top5"),
    *("macro_f1", "balanced_accuracy", "ece", "ece_calibrated"),
    *("share_novel", "rouge_l", "bleu1", "bleu2", "bleu3", "bleu4"),
)


def is_fraction(metric: str) -> bool:
    """Return true for a fraction that is reported in percent; `metric` is a key or a full metric name."""
    return _key_name(metric) in _FRACTIONS


def format_value(metric: str, value: float) -> str:
    """Format a metric with its unit: `68.8 %`, `0.352`, `22.41 dB`."""
    if not math.isfinite(value):
        return str(value)
    if is_fraction(metric):
        return f"{_without_trailing_zeros(100 * value, 2)} %"
    if "psnr" in _key_name(metric):
        return f"{value:.2f} dB"
    return _without_trailing_zeros(value, 4)


def format_change(metric: str, difference: float) -> str:
    """Format a difference between two values of a metric: `2 points` for percentages, `0.5 dB`, `0.03`."""
    if is_fraction(metric):
        return f"{_without_trailing_zeros(100 * difference, 2)} points"
    return _without_trailing_zeros(difference, 4) + (" dB" if "psnr" in _key_name(metric) else "")


def percent(value: float | None, *, decimals: int = 1) -> str:
    """Format a fraction in percent without the sign, which is in the column's head; a dash for None."""
    return "–" if value is None else f"{100 * value:.{decimals}f}"


def percent_with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a fraction in percent with its interval: `68.8 (66.5 to 71.1)`."""
    if value is None or low is None or high is None:
        return percent(value)
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


def decimal_with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a number with its interval: `23.41 (23.29 to 23.53)`."""
    if value is None or low is None or high is None:
        return decimal(value, decimals=2)
    return f"{decimal(value, decimals=2)} ({decimal(low, decimals=2)} to {decimal(high, decimals=2)})"


def percent_with_spread(mean: float | None, deviation: float | None, count: float | None) -> str:
    """Format mean, standard deviation and count of fractions, the first two in percent: `68.8 ± 0.6 (3)`."""
    if mean is None or deviation is None or count is None:
        return percent(mean)
    return f"{percent(mean)} ± {percent(deviation)} ({whole(count)})"


def probability(value: float | None) -> str:
    """Format a p-value: `p 0.032`, `p < 0.0001`."""
    if value is None:
        return "–"
    return "p < 0.0001" if value < 1e-4 else f"p {value:.2g}" if value < 0.1 else f"p {value:.2f}"


def decimal(value: float | None, *, decimals: int = 3) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def whole(value: float | None) -> str:
    """Format a count with thousands separators: `13,500`."""
    return "–" if value is None else f"{round(value):,}"


def magnitude(value: float | None) -> str:
    """Format a large count in short: `1.65 M`, `190 M`, `3.1 G`, `12 T`."""
    if value is None:
        return "–"
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _without_trailing_zeros(value: float, decimals: int) -> str:
    return re.sub(r"\.?0+$", "", text) if "." in (text := f"{value:.{decimals}f}") else text


def _key_name(metric: str) -> str:
    return re.split(r"[:/]", metric)[-1]
