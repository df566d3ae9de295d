"""What a reader of the page sees first: the best experiment of each task, and charts of all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seesay.autoencoding.page import RECONSTRUCTIONS
from seesay.captioning.tables import baseline_rows
from seesay.core.paths import Paths
from seesay.params.classification import PRETRAINED
from seesay.plotting.embed import read_tiles
from seesay.plotting.table import CHANCE, Row, decimal, percent
from seesay.report.compare import Change, Comparison
from seesay.report.experiments_section import read_examples
from seesay.report.readme import OVER_SEEDS, headline_tables
from seesay.report.results import Results

_SHOWN_BESIDE = 3


@dataclass(frozen=True)
class Mark:
    """A row of a chart: `text` is the value with its unit; `kind` is ours, pretrained, published or baseline."""

    label: str
    value: float
    text: str
    kind: str
    low: float | None = None
    high: float | None = None
    cell: str = ""


@dataclass(frozen=True)
class Chart:
    """Scores of one dataset, the best first, on one scale from `start` to `end`."""

    title: str
    axis: str
    marks: tuple[Mark, ...]
    start: float
    end: float
    step: float

    def at(self, value: float) -> float:
        """Return the position of a value on the scale, in percent."""
        return round(100 * (value - self.start) / (self.end - self.start), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The position and the text of each tick."""
        count = round((self.end - self.start) / self.step)
        values = [self.start + number * self.step for number in range(count + 1)]
        return [(self.at(value), f"{value:g}" if self.step >= 1 else f"{value:.1f}") for value in values]

    @property
    def best(self) -> str:
        """The best experiment."""
        return next((mark.cell for mark in self.marks if mark.cell), "")

    @property
    def kinds(self) -> list[str]:
        """The kinds of marks that the chart has, for its legend."""
        present = {mark.kind for mark in self.marks}
        return [kind for kind in ("ours", "pretrained", "published", "baseline") if kind in present]


@dataclass(frozen=True)
class Bar:
    """A value on a card, and the width of its bar in percent of the largest."""

    label: str
    text: str
    width: float
    is_best: bool


@dataclass(frozen=True)
class Card:
    """The best experiment on one dataset: its score, what stands beside it, a picture, and its change."""

    task: str
    section: str
    data: str
    cell: str
    metric: str
    score: str
    interval: str
    bars: tuple[Bar, ...]
    pictures: tuple[tuple[Markup, str], ...]
    change: Change | None


def read_cards(results: Results, paths: Paths, comparison: Comparison | None) -> list[Card]:
    """Return a card per line of the headline tables, with a picture where the workspace has one."""
    tables, chosen = headline_tables(results)
    lines = [(table, row) for table in tables for row in table.rows]
    return [_card(table.title, table.heads, row, best, paths, comparison)
            for (table, row), best in zip(lines, chosen, strict=True)]  # fmt: skip


_SECTIONS = {
    "Classification": ("classification", "evaluate_classifier", "test/top1", "%"),
    "Captioning": ("captions", "score_captions", "test/cider_d", ""),
    "Autoencoders": ("autoencoders", "evaluate_autoencoder", "test/psnr", "dB"),
}


def _card(
    task: str, heads: Sequence[str], row: Sequence[str], best: Row, paths: Paths, comparison: Comparison | None
) -> Card:
    section, stage, key, unit = _SECTIONS[task]
    data, cell, value = row[:3]
    score, _, interval = value.partition(" ")
    beside = [(head, text) for head, text in zip(heads[3:-1], row[3:-1], strict=True) if _number(text) is not None]
    beside = [
        (head, text) for head, text in beside if not head.startswith(("BLEU", OVER_SEEDS)) and f"({cell})" not in text
    ]
    numbers = [(cell, score, True), *((head, text, False) for head, text in beside[:_SHOWN_BESIDE])]
    largest = max(_number(text) or 0.0 for _, text, _ in numbers) or 1.0
    changes = comparison.changes if comparison is not None else ()
    return Card(
        task=task,
        section=section,
        data=data,
        cell=cell,
        metric=heads[2].partition(",")[0],
        score=f"{score} {unit}".strip(),
        interval=interval.strip("()"),
        bars=tuple(Bar(label, text, round(100 * max(0.0, (_number(text) or 0.0) / largest), 1), is_best)
                   for label, text, is_best in numbers),
        pictures=_pictures(section, best, paths),
        change=next((one for one in changes if one.metric == f"{stage}/{cell}:{key}"), None),
    )  # fmt: skip


def _pictures(section: str, best: Row, paths: Paths) -> tuple[tuple[Markup, str], ...]:
    """Return one or two small pictures of what the best experiment does, each with a text, where there are figures."""
    cell = best["cell"]
    if section == "captions":
        _, examples = read_examples(paths, cell)
        shown = [(one.picture, f"“{one.prediction}”") for one in examples if one.picture is not None]
        return tuple(shown[:1])
    if section == "classification":
        return tuple(read_tiles(paths.figures("evaluate_classifier", cell) / "predictions.webp", num_rows=1))
    panel = paths.figures("evaluate_autoencoder", cell) / RECONSTRUCTIONS[0][0]
    return tuple(read_tiles(panel, num_rows=2))


def classifier_charts(rows: Sequence[Row]) -> dict[str, Chart]:
    """Return a chart of test top-1 for each dataset that we trained classifiers on."""
    ours = [row for row in rows if "architecture" in row]
    return {name: _classifier_chart(name, [row for row in rows if row["dataset"] == name]) for name in _datasets(ours)}


def _classifier_chart(dataset: str, rows: Sequence[Row]) -> Chart:
    marks = []
    for row in rows:
        value, low, high = (row.get(f"test/top1{end}") for end in ("", "_low", "_high"))
        if value is None:
            continue
        kind = "published" if "source" in row else "baseline" if row["cell"] == CHANCE else "ours"
        kind = "pretrained" if row.get("architecture") == PRETRAINED else kind
        cell = row["cell"] if "architecture" in row else ""
        bounds = [None if bound is None else 100 * bound for bound in (low, high)]
        marks.append(Mark(row["cell"], 100 * value, f"{percent(value)} %", kind, bounds[0], bounds[1], cell))
    return _chart(f"Top-1 on {dataset}", "test top-1, %", marks, largest=100.0)


def caption_charts(rows: Sequence[Row]) -> dict[str, Chart]:
    """Return a chart of test CIDEr-D for each dataset, with baselines and human captions."""
    charts = {}
    for name in _datasets(rows):
        here = [row for row in rows if row["dataset"] == name]
        labelled = [(row["cell"], row, "ours") for row in here if row["set"] == "test"]
        labelled += [(label, row, "baseline") for label, row in _named_baselines(here)]
        marks = [
            Mark(label, row["cider_d"], decimal(row["cider_d"]), kind, row.get("cider_d_low"), row.get("cider_d_high"),
                 row["cell"] if kind == "ours" else "")
            for label, row, kind in labelled
            if row.get("cider_d") is not None
        ]  # fmt: skip
        charts[name] = _chart(f"CIDEr-D on {name}", "test CIDEr-D (1.0 is often printed as 100)", marks)
    return charts


def _named_baselines(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield the baselines of a dataset with their names; the nearest image's caption depends on the features."""
    baselines = baseline_rows(rows)
    of_features = sum(row["set"] == "floor_nearest" for _, row in baselines) > 1
    for label, row in baselines:
        name = "human caption" if row["set"] == "human" else label.partition(": ")[2]
        yield (f"{name} ({row['features']})" if of_features and row["set"] == "floor_nearest" else name), row


def autoencoder_charts(rows: Sequence[Row]) -> dict[str, Chart]:
    """Return a chart of test PSNR for each dataset, with the mean image."""
    charts = {}
    for name in _datasets(rows):
        here = [row for row in rows if row["dataset"] == name and row.get("test/psnr") is not None]
        marks = [
            Mark(row["cell"], row["test/psnr"], f"{row['test/psnr']:.2f} dB", "ours", row.get("test/psnr_low"),
                 row.get("test/psnr_high"), row["cell"])
            for row in here
        ]  # fmt: skip
        if here:
            mean = here[0]["test/mean_image_psnr"]
            marks.append(Mark("mean image", mean, f"{mean:.2f} dB", "baseline"))
        charts[name] = _chart(f"PSNR on {name}", "test PSNR, dB", marks, from_zero=False)
    return charts


def _chart(title: str, axis: str, marks: Sequence[Mark], *, largest: float = math.inf, from_zero: bool = True) -> Chart:
    ranked = sorted(marks, key=lambda mark: -mark.value)
    values = [value for mark in ranked for value in (mark.value, mark.low, mark.high) if value is not None]
    high, low = max(values, default=1.0), 0.0 if from_zero else min(values, default=0.0)
    step = _step(high - low)
    start, end = step * math.floor(low / step), min(largest, step * math.ceil(high / step))
    return Chart(title, axis, tuple(ranked), start, end, step)


def _step(length: float) -> float:
    """Return the distance between ticks, a round number of which at most six fit into the length."""
    power = 10.0 ** math.floor(math.log10(max(length, 1e-6)))
    return next(power * part for part in (0.2, 0.5, 1.0, 2.0) if length / (power * part) <= 6)


def _datasets(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(str(row["dataset"]) for row in rows))


def _number(text: str) -> float | None:
    match = re.match(r"-?[\d,]*\.?\d+", text)
    return None if match is None else float(match[0].replace(",", ""))
