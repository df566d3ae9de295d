"""The results tables, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from seesay.autoencoding.tables import autoencoder_tables
from seesay.captioning.tables import caption_tables
from seesay.classification.tables import classifier_tables
from seesay.plotting.numbers import whole
from seesay.plotting.table import Footnotes, Row, Table, Timings
from seesay.report.results import Results


def results_tables(results: Results, timings: Timings) -> tuple[list[Table], list[str]]:
    """Return the tables that have rows, and their footnotes.

    `timings` come from the run records; columns without a value are left out.
    """
    notes = Footnotes()
    tables = [
        *classifier_tables(results.classification, timings, notes),
        *autoencoder_tables(results.autoencoders, notes),
        *caption_tables(results.captions, timings, notes),
        _datasets(results.datasets, notes),
    ]
    return [table for table in tables if table.rows], notes.texts()


def results_markdown(results: Results, *, title: str, note: str, provenance: str, timings: Timings) -> str:
    """Return reports/results.md: the tables, their provenance, and footnotes on substituted files."""
    tables, footnotes = results_tables(results, timings)
    parts = [f"# {title}", " ".join(part for part in (note, provenance) if part)]
    for table in tables:
        parts += [f"## {table.title}", table.note, table.markdown()]
    parts += footnotes
    return "\n\n".join(part for part in parts if part) + "\n"


def _datasets(rows: Sequence[Row], notes: Footnotes) -> Table:
    lines = []
    for row in rows:
        images, captions = row["num_images"], row["num_captions"] or {}
        lines.append(
            (
                row["dataset"] + notes.mark(row["substitutes"]),
                row["kind"],
                *(whole(images.get(split)) for split in ("train", "val", "test")),
                *(whole(captions.get(split)) for split in ("train", "val", "test")),
            )
        )
    heads = ("dataset", "kind", "train", "val", "test", "train captions", "val captions", "test captions")
    return Table("Data", "Images and captions per split.", heads, tuple(lines), num_names=2)
