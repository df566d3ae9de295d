"""What do the results tables say? The same rows for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from seesay.reporting.autoencoder_tables import autoencoder_tables
from seesay.reporting.classifier_tables import classifier_tables
from seesay.reporting.numbers import decimal, percent, whole
from seesay.reporting.results import Results, Row
from seesay.reporting.runs import Measured
from seesay.reporting.table import Footnotes, Table

_SET_NAMES = {
    "test": "test images",
    "val": "val images",
    "test_shuffled": "test, images shuffled",
    "floor_constant": "floor: best constant caption",
    "floor_random": "floor: random training caption",
    "human": "human: a reference against the others",
}


def results_tables(results: Results, measured: Measured) -> tuple[list[Table], list[str]]:
    """The tables that have rows, and the footnotes under them.

    `measured` is what the run records say of speed; columns of what they do not say are left out.
    """
    notes = Footnotes()
    tables = [
        *classifier_tables(results.classification, measured, notes),
        *autoencoder_tables(results.autoencoders, notes),
        _captions(results.captions, notes),
        _datasets(results.datasets, notes),
    ]
    return [table for table in tables if table.rows], notes.texts()


def results_markdown(results: Results, *, title: str, note: str, provenance: str, measured: Measured) -> str:
    """reports/results.md: the tables, where their numbers come from, and what stands in for official files."""
    tables, footnotes = results_tables(results, measured)
    parts = [f"# {title}", " ".join(part for part in (note, provenance) if part)]
    for table in tables:
        parts += [f"## {table.title}", table.note, table.markdown()]
    parts += footnotes
    return "\n\n".join(part for part in parts if part) + "\n"


def _captions(rows: Sequence[Row], notes: Footnotes) -> Table:
    lines = []
    for row in rows:
        is_model = row["set"] in ("test", "val", "test_shuffled")
        scored = _SET_NAMES[row["set"]] + (f" ({row['search']})" if is_model else "")
        lines.append(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                scored,
                *(percent(row.get(f"bleu{n}")) for n in (1, 2, 3, 4)),
                percent(row.get("rouge_l")),
                decimal(row.get("cider_d")),
                decimal(row.get("mean_length"), decimals=1),
                whole(row.get("vocabulary_size")),
                percent(row.get("share_novel")),
            )
        )
    return Table(
        "Captions",
        "BLEU and ROUGE-L in percent, CIDEr-D as a decimal (0.30 is often printed as 30). A captioner that does not "
        "look scores like the floors, and loses nothing when the images are shuffled. Length in words; novel: not a "
        "training caption.",
        (
            *("captioner", "dataset", "captions"),
            *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D", "length", "words", "novel, %"),
        ),
        tuple(lines),
        num_names=3,
    )


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
