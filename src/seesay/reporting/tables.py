"""What do the results tables say? The same rows for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seesay.reporting.numbers import decimal, magnitude, percent, percent_with_error, whole
from seesay.reporting.results import CHANCE, Results, Row

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

_SET_NAMES = {
    "test": "test images",
    "val": "val images",
    "test_shuffled": "test, images shuffled",
    "floor_constant": "floor: best constant caption",
    "floor_random": "floor: random training caption",
    "human": "human: a reference against the others",
}


@dataclass(frozen=True)
class Table:
    """A title, a sentence on what it shows, heads, and rows of text; the first `num_names` columns are names."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int


@dataclass
class Footnotes:
    """Numbered notes on files that stand in for official ones: one number per distinct list of files."""

    lists: list[tuple[str, ...]] = field(default_factory=list)

    def mark(self, files: Sequence[str]) -> str:
        """The superscript to put beside a result made from these files; "" where there are none."""
        if not files:
            return ""
        if tuple(files) not in self.lists:
            self.lists.append(tuple(files))
        return str(self.lists.index(tuple(files)) + 1).translate(_SUPERSCRIPTS)

    def texts(self) -> list[str]:
        """The notes, each with its mark."""
        return [
            f"{self.mark(files)} Substitutes: made from files of a mirror that differ from the official ones: "
            f"{', '.join(files)}."
            for files in self.lists
        ]


def results_tables(results: Results, throughput: Mapping[str, float]) -> tuple[list[Table], list[str]]:
    """The tables that have rows, and the footnotes under them.

    `throughput` is images per second per classifier; its column is left out where it is empty.
    """
    notes = Footnotes()
    tables = [
        _classification(results.classification, throughput, notes),
        _autoencoders(results.autoencoders, notes),
        _captions(results.captions, notes),
        _datasets(results.datasets, notes),
    ]
    return [table for table in tables if table.rows], notes.texts()


def results_markdown(
    results: Results, *, title: str, note: str, provenance: str, throughput: Mapping[str, float]
) -> str:
    """reports/results.md: the tables, where their numbers come from, and what stands in for official files."""
    tables, footnotes = results_tables(results, throughput)
    parts = [f"# {title}", " ".join(part for part in (note, provenance) if part)]
    for table in tables:
        parts += [f"## {table.title}", table.note, _markdown(table)]
    parts += footnotes
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(table: Table) -> str:
    rule = ["---" if column < table.num_names else "---:" for column in range(len(table.heads))]
    lines = [table.heads, rule, *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _classification(rows: Sequence[Row], throughput: Mapping[str, float], notes: Footnotes) -> Table:
    heads = ("classifier", "dataset", "parameters", "FLOPs", "top-1, %", "top-5, %", "macro F1, %", "val top-1, %")
    lines = []
    for row in rows:
        line = [
            row["cell"],
            row["dataset"] + notes.mark(row["substitutes"]),
            magnitude(row.get("num_parameters")),
            magnitude(row.get("flops")),
            percent_with_error(row.get("test/top1"), row.get("test/num_images")),
            percent(row.get("test/top5")),
            percent(row.get("test/macro_f1")),
            percent(row.get("val/top1")),
        ]
        if throughput:
            line.append(whole(throughput.get(row["cell"])))
        lines.append(tuple(line))
    return Table(
        "Classification",
        "On the test split; ± is the standard error of a share. FLOPs: two per multiply-add, one image forward. "
        f"The row {CHANCE} is what guessing gives.",
        (*heads, "images/s") if throughput else heads,
        tuple(lines),
        num_names=2,
    )


def _autoencoders(rows: Sequence[Row], notes: Footnotes) -> Table:
    return Table(
        "Autoencoders",
        "On the test split, pixels in 0 to 1. The mean image is what a network that ignores its input could give.",
        ("autoencoder", "dataset", "MSE", "PSNR, dB", "mean image's PSNR, dB"),
        tuple(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                decimal(row.get("test/mse"), decimals=5),
                decimal(row.get("test/psnr"), decimals=2),
                decimal(row.get("test/mean_image_psnr"), decimals=2),
            )
            for row in rows
        ),
        num_names=2,
    )


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
