"""Tables of captioners: a ranking per dataset beside its floors and human captions, and the scores on val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seesay.params.captioning import Beam, CaptionerTraining, Decoding, DiverseBeam, Nucleus
from seesay.params.datasets import Features
from seesay.params.training import CLASSIFIERS, FINETUNED
from seesay.plotting.table import (
    MISSING,
    Footnotes,
    Row,
    Table,
    Timings,
    decimal,
    magnitude,
    percent,
    probability,
    total_training_cost,
    whole,
)

Costs = Mapping[str, tuple[float | None, float | None]]
"""Core-seconds by cell: of its own training, and in total, with the captioners that it is built on."""

BASELINES = {
    "floor_nearest": "floor: nearest training image's caption",
    "floor_constant": "floor: best constant caption",
    "floor_random": "floor: random training caption",
    "human": "human: a reference against the others",
}
"""Floors and human captions on the same test images, in the order of the table's last rows."""

_HEADS = (
    *("captioner", "CIDEr-D", "seeds", "against next", "BLEU-4", "shuffled CIDEr-D", "drop, %"),
    *("architecture", "features", "training", "decoding", "BLEU-1", "BLEU-2", "BLEU-3", "ROUGE-L", "METEOR (Java)"),
    *("length", "words", "distinct-2", "novel, %", "parameters", "training, core-min", "total training cost, core-min"),
)
_MAIN = ("captioner", "CIDEr-D", "seeds", "against next", "BLEU-4", "shuffled CIDEr-D", "novel, %", "decoding")
_NOTE = (
    "On the test images, ranked by CIDEr-D with its 95 % interval (bootstrap over the images). CIDEr-D is a decimal "
    "(0.30 is often printed as 30); BLEU, ROUGE-L and METEOR are in percent. Seeds: mean, standard deviation and "
    "number of the captioners that differ in their seed only. Against next: the difference of CIDEr-D "
    "to the next captioner, and p of a paired bootstrap over the same images. Shuffled: each image is captioned from "
    "another image's features; a captioner that ignores the image loses nothing there, and scores like the floors. "
    "Length: mean number of words; words: distinct words used; distinct-2: share of distinct word pairs; novel: not a "
    "training caption. Total training cost: with the captioner it is built on, without the encoder. "
    "Views: other crops of each training image, also used in training."
)
_LATER_NOTE = (
    "As above. The numbers of images are under Data: scores on a part of a dataset are not those on all of it."
)
_VAL_HEADS = ("captioner", "dataset", "CIDEr-D", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L")
_VAL_NOTE = "On the validation images, which chose the best epoch: not comparable with test."


def caption_tables(rows: Sequence[Row], measured: Timings, notes: Footnotes) -> list[Table]:
    """Return a table per dataset in the order of `rows`, then one of the scores on val, without empty columns."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    costs = _costs(rows, measured)
    tables = [
        _ranking([row for row in rows if row["dataset"] == name], name, costs, notes, note=note)
        for name, note in zip(datasets, (_NOTE, *[_LATER_NOTE] * len(datasets)), strict=False)
    ]
    return [table.without_empty_columns() for table in (*tables, _val(rows, notes)) if table.rows]


def baseline_rows(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Return (label, row) of each floor and of human captions for one dataset, once each.

    The nearest neighbour comes once per features. Features whose neighbours score the same are one: views of images
    leave the images' own rows as they are.
    """
    unique: dict[tuple[str, object], tuple[str, Row]] = {}
    for name, label in BASELINES.items():
        for row in rows:
            if row["set"] == name:
                score = row.get("cider_d") if name == "floor_nearest" else None
                unique.setdefault((name, score), (label, row))
    return list(unique.values())


def describe_decoding(decoding: Decoding) -> str:
    """Return `greedy`, `beam 5`, `diverse beam 6 (3 groups)`, `nucleus 0.9 (best of 5)`, `beam 5, by consensus`."""
    match decoding:
        case Beam():
            description = f"beam {decoding.beam_size}"
        case DiverseBeam():
            description = f"diverse beam {decoding.beam_size} ({decoding.num_groups} groups)"
        case Nucleus():
            description = f"nucleus {decoding.top_p:g} (best of {decoding.num_samples})"
        case _:
            return decoding.method
    return description if decoding.rerank is None else f"{description}, by {decoding.rerank}"


def describe_encoder(features: Features) -> str:
    """Return `mobilenet_v2`, `our resnet9` or `fine-tuned mobilenet`; with PCA `mobilenet_v2, PCA 256`."""
    section, _, name = features.encoder.partition("/")
    name = {CLASSIFIERS: "our ", FINETUNED: "fine-tuned "}.get(section, "") + name
    return name if features.num_components is None else f"{name}, PCA {features.num_components}"


def describe_features(features: Features, looks_at: str) -> str:
    """Return `mobilenet_v2, 7×7 grid` or `our resnet9, pooled`, or the encoder alone where `looks_at` is unknown.

    With views of the training images: `mobilenet_v2, 7×7 grid, 4 views`.
    """
    description = describe_encoder(features)
    if looks_at == "grid" and features.grid_size is not None:
        description += f", {features.grid_size}×{features.grid_size} grid"
    elif looks_at == "pooled":
        description += ", pooled"
    return description if features.views is None else f"{description}, {features.views.count} views"


def describe_training(learning: CaptionerTraining) -> str:
    """Return `captions`, `captions, also flickr8k`, `SCST on soft_attention`, `captions, on lstm_coco2017` or `mean of
    lstm, gru`."""
    if learning.is_ensemble:
        return f"mean of {', '.join(learning.parents)}"
    description = "captions" if learning.self_critical is None else "SCST"
    for parent in learning.parents:
        description += f" on {parent}" if learning.self_critical is not None else f", on {parent}"
    return "".join([description, *(f", also {dataset}" for dataset in learning.datasets[1:])])


def _costs(rows: Sequence[Row], measured: Timings) -> Costs:
    """Return each captioner's costs; the total only where any captioner is built on another."""
    own = measured.captioner_core_seconds
    by_cell = {row["cell"]: row for row in rows if row["set"] == "test"}
    are_built = any("built_on" in row for row in by_cell.values())
    return {cell: (own.get(cell), total_training_cost(cell, own, by_cell) if are_built else None) for cell in by_cell}


def _ranking(rows: Sequence[Row], dataset: str, costs: Costs, notes: Footnotes, *, note: str) -> Table:
    models = sorted((row for row in rows if row["set"] == "test"), key=lambda row: -(row.get("cider_d") or 0.0))
    shuffled = {row["cell"]: row for row in rows if row["set"] == "test_shuffled"}
    lines = []
    for row in models:
        cell = row["cell"]
        lines.append(
            (
                cell + notes.mark(row["substitutes"]),
                _with_interval(row),
                _over_seeds(row),
                _against_next(row),
                percent(row.get("bleu4")),
                decimal(shuffled.get(cell, {}).get("cider_d")),
                percent(_drop(row, shuffled.get(cell, {})), decimals=0),
                *(str(row.get(key, "")) for key in ("architecture", "sees", "learned", "search")),
                *_scores(row),
                magnitude(row.get("num_parameters")),
                *map(_minutes, costs[cell]),
            )
        )
    for label, row in baseline_rows(rows):
        features = str(row.get("features", "")) if row["set"] == "floor_nearest" else ""
        shown, missing = (label, _with_interval(row), MISSING, MISSING, percent(row.get("bleu4"))), (MISSING,) * 3
        lines.append((*shown, *missing[:2], "", features, "", "", *_scores(row), *missing))
    return Table(f"Captions of {dataset}", note, _HEADS, tuple(lines), num_names=1, main=_MAIN)


def _val(rows: Sequence[Row], notes: Footnotes) -> Table:
    lines = [
        (
            row["cell"],
            row["dataset"] + notes.mark(row["substitutes"]),
            decimal(row.get("cider_d")),
            *(percent(row.get(f"bleu{n}")) for n in (1, 2, 3, 4)),
            percent(row.get("rouge_l")),
        )
        for row in rows
        if row["set"] == "val"
    ]
    return Table("Captions of val images", _VAL_NOTE, _VAL_HEADS, tuple(lines), 2)


def _scores(row: Row) -> tuple[str, ...]:
    return (
        *(percent(row.get(f"bleu{n}")) for n in (1, 2, 3)),
        percent(row.get("rouge_l")),
        percent(row.get("meteor_java")),
        decimal(row.get("mean_length"), decimals=1),
        whole(row.get("vocabulary_size")),
        decimal(row.get("distinct2"), decimals=2),
        percent(row.get("share_novel")),
    )


def _with_interval(row: Row) -> str:
    """Return `0.452 (0.431 to 0.474)`, or `0.452` where the interval is unknown."""
    low, high = row.get("cider_d_low"), row.get("cider_d_high")
    value = decimal(row.get("cider_d"))
    return value if low is None or high is None else f"{value} ({decimal(low)} to {decimal(high)})"


def _over_seeds(row: Row) -> str:
    """Return `0.512 ± 0.004 (3)`, or nothing for a captioner with one seed."""
    mean, deviation, count = (row.get(f"seeds/{key}") for key in ("test/cider_d_mean", "test/cider_d_std", "num"))
    if mean is None or deviation is None or count is None:
        return MISSING
    return f"{decimal(mean)} ± {decimal(deviation)} ({whole(count)})"


def _against_next(row: Row) -> str:
    """Return `+0.031, p 0.004`."""
    difference, p = row.get("next/difference"), row.get("next/p")
    return MISSING if difference is None else f"{difference:+.3f}, {probability(p)}"


def _drop(row: Row, shuffled: Row) -> float | None:
    """Return the share of CIDEr-D that a captioner loses when the images are shuffled."""
    own, other = row.get("cider_d"), shuffled.get("cider_d")
    if own is None or other is None or own <= 0:
        return None
    return float((own - other) / own)


def _minutes(seconds: float | None) -> str:
    return MISSING if seconds is None else f"{seconds / 60:.1f}"
