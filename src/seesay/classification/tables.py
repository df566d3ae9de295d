"""Tables about classifiers: accuracy per dataset, cost, and published results."""

from __future__ import annotations

from collections.abc import Sequence

from seesay.plotting.table import (
    CHANCE,
    MISSING,
    Footnotes,
    Row,
    Table,
    Timings,
    decimal,
    magnitude,
    percent,
    percent_with_interval,
    percent_with_spread,
    probability,
    total_training_cost,
    whole,
)

_HEADS = (
    *("classifier", "top-1, %", "with flip, %", "six views, %", "seeds, %", "against next", "top-5, %"),
    *("macro F1, %", "AUC", "ECE, %", "calibrated ECE, %", "val top-1, %"),
)
_MAIN = ("classifier", "top-1, %", "seeds, %", "against next", "calibrated ECE, %")
_NOTE = (
    "On the test split, ranked by top-1 with its 95 % interval (bootstrap over the images). With flip: the mean of the "
    "probabilities for an image and its mirror image; six views: of these two, as they are and moved along both "
    "diagonals. Seeds: mean ± sample standard deviation of top-1 (number of networks). Against next: the number of "
    "images that only this classifier gets right, the number that only our next one gets right, and p of McNemar's "
    "exact test. AUC: each class against the rest, mean. ECE: expected calibration error, as trained and with the "
    f"temperature fitted on val. The row {CHANCE} always says the most common class; published results are not ours."
)


def classifier_tables(rows: Sequence[Row], measured: Timings, notes: Footnotes) -> list[Table]:
    """Build the tables, in the order of the datasets in `rows`; empty columns are left out."""
    ours = [row for row in rows if not is_published(row) and row["cell"] != CHANCE]
    datasets = list(dict.fromkeys(row["dataset"] for row in ours))
    accuracy = [
        _accuracy([row for row in rows if row["dataset"] == dataset], f"Classification on {dataset}", notes, note=note)
        for dataset, note in zip(datasets, (_NOTE, *["As above."] * len(datasets)), strict=False)
    ]
    published = [row for row in rows if is_published(row)]
    tables = [
        *accuracy,
        _costs(ours, measured, notes),
        _published([row for row in published if row["dataset"] in datasets], is_context=False),
        _published([row for row in published if row["dataset"] not in datasets], is_context=True),
    ]
    return [table.without_empty_columns() for table in tables if table.rows]


def is_published(row: Row) -> bool:
    """Return whether a row is a published result."""
    return "source" in row


def _accuracy(rows: Sequence[Row], title: str, notes: Footnotes, *, note: str) -> Table:
    ranked = sorted(rows, key=lambda row: (row["cell"] == CHANCE, -(row.get("test/top1") or 0.0)))
    data_files: Sequence[str] = min((row["substitutes"] for row in ranked if row["substitutes"]), key=len, default=[])
    lines = []
    for row in ranked:
        interval = (row.get("test/top1_low"), row.get("test/top1_high"))
        over_seeds = (row.get("seeds/test/top1_mean"), row.get("seeds/test/top1_std"), row.get("seeds/num"))
        lines.append(
            (
                _name(row) + (notes.mark(row["substitutes"]) if row["substitutes"] != data_files else ""),
                percent_with_interval(row.get("test/top1"), *interval),
                percent(row.get("test/top1_flipped")),
                percent(row.get("test/top1_views")),
                percent_with_spread(*over_seeds),
                _against_next(row),
                percent(row.get("test/top5")),
                percent(row.get("test/macro_f1")),
                decimal(row.get("test/auc_macro")),
                percent(row.get("test/ece")),
                percent(row.get("test/ece_calibrated")),
                percent(row.get("val/top1")),
            )
        )
    return Table(title + notes.mark(data_files), note, _HEADS, tuple(lines), num_names=1, main=_MAIN)


def _name(row: Row) -> str:
    return f"published: {row['cell']}" if is_published(row) else str(row["cell"])


def _against_next(row: Row) -> str:
    """Format McNemar's test: `154 : 54, p < 0.0001`."""
    p = row.get("mcnemar/p")
    return MISSING if p is None else f"{whole(row.get('mcnemar/b'))} : {whole(row.get('mcnemar/c'))}, {probability(p)}"


def _costs(rows: Sequence[Row], measured: Timings, notes: Footnotes) -> Table:
    by_cell = {row["cell"]: row for row in rows}
    batch_sizes = sorted({size for speeds in measured.throughput.values() for size in speeds})
    lines = []
    for row in rows:
        cell, speeds = row["cell"], measured.throughput.get(row["cell"], {})
        lines.append(
            (
                cell,
                row["dataset"] + notes.mark(row["substitutes"]),
                magnitude(row.get("num_parameters")),
                magnitude(row.get("flops")),
                magnitude(row.get("training_flops")),
                _minutes(measured.core_seconds.get(cell)),
                _minutes(total_training_cost(cell, measured.core_seconds, by_cell)),
                _minutes(measured.core_seconds_all_seeds.get(cell)),
                *(whole(speeds.get(size)) for size in batch_sizes),
            )
        )
    return Table(
        "Cost of the classifiers",
        "FLOPs: two per multiply-add, forward pass of one image. Training: one network. Total training cost: including "
        "its teacher or its members, but not published ImageNet weights. All seeds: all networks of the experiment.",
        (
            *("classifier", "dataset", "parameters", "FLOPs", "training FLOPs", "training, core-min"),
            *("total training cost, core-min", "all seeds, core-min"),
            *(f"images/s, batch {size}" for size in batch_sizes),
        ),
        tuple(lines),
        num_names=2,
        main=("classifier", "dataset", "parameters", "FLOPs", "total training cost, core-min", "images/s, batch 1"),
    )


def _published(rows: Sequence[Row], *, is_context: bool) -> Table:
    lines = tuple(
        (
            *(row["cell"], row["dataset"], row["source"], magnitude(row.get("num_parameters"))),
            *(percent(row.get("test/top1")), percent(row.get("test/top5"))),
        )
        for row in rows
    )
    heads = ("network", "dataset", "source", "parameters", "top-1, %", "top-5, %")
    if is_context:
        note = "Not ours, and on other tasks than ours: not comparable, only for a sense of scale."
        return Table("Published on other tasks, for context", note, heads, lines, num_names=3)
    note = "Not ours: as reported by their authors, on the same classes, but possibly with other splits."
    return Table("Published on these datasets", note, heads, lines, num_names=3)


def _minutes(seconds: float | None) -> str:
    return MISSING if seconds is None else f"{seconds / 60:.1f}"
