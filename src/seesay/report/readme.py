"""Results in the documents: headline tables in README.md, all tables in docs/results.md, each between two markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import read_text, write_text
from seesay.core.paths import Paths
from seesay.plotting.table import CHANCE, MISSING, Row, Table, decimal, percent, percent_with_interval, whole
from seesay.report.results import Results, read_results

README, RESULTS = "README.md", "docs/results.md"


def update_documents(root: Path) -> list[str]:
    """Rewrite the documents whose tables are not those of reports/, and return their names.

    Raises `InputError` where a document or a file in reports/ is missing, or a marker is.
    """
    outdated = _outdated(root)
    for name, text in outdated.items():
        write_text(root / name, text)
    return list(outdated)


def outdated_documents(root: Path) -> list[str]:
    """Return the names of the documents whose tables are not those of reports/."""
    return list(_outdated(root))


def has_documents(root: Path) -> bool:
    """Whether `root` is a repository with documents to update; a workspace under .work has none."""
    return all((root / name).is_file() for name in (README, RESULTS))


def _outdated(root: Path) -> dict[str, str]:
    """The new text of every document that differs from the one in place, by name."""
    paths = Paths(root)
    contents = {
        README: ("headlines", headlines_markdown(read_results(paths.results_data))),
        RESULTS: ("results", _one_level_deeper(read_text(paths.results))),
    }
    texts = {name: read_text(root / name) for name in contents}
    new = {name: _between(texts[name], root / name, *contents[name]) for name in contents}
    return {name: text for name, text in new.items() if text != texts[name]}


def _between(text: str, path: Path, marker: str, content: str) -> str:
    """`text` with `content` between the lines `<!-- marker:begin -->` and `<!-- marker:end -->`."""
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(f"{path}: expected one line {begin} and, after it, one line {end}")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _one_level_deeper(results: str) -> str:
    """The results without their title, headings one level deeper and paths from docs/, as part of a document."""
    body = re.sub(r"\A# .*\n+", "", results)
    body = re.sub(r"^(!\[[^\]]*\]\()", r"\1../reports/", body, flags=re.MULTILINE)
    return re.sub(r"^(#+) ", r"#\1 ", body, flags=re.MULTILINE).strip()


OVER_SEEDS = "best mean over seeds"
"""A column that a table has where any network was trained with several seeds."""

PRETRAINED, PCA = "pretrained", "pca"
"""Architectures: published ImageNet weights; principal components, the linear baseline."""


def headline_tables(results: Results) -> tuple[list[Table], list[Row]]:
    """One table per task that has results, with a line per dataset, and the rows of the best experiments in them.

    The columns are the test data, the best experiment, its score, what stands beside it, the best mean over several
    seeds if there is any, and how to reproduce the best experiment.
    """
    chosen: list[Row] = []
    sizes = {row["dataset"]: f"{row['dataset']}, {whole(row['num_images']['test'])} images" for row in results.datasets}
    tables = [
        _classification(results.classification, sizes, chosen),
        _captions(results.captions, sizes, chosen),
        _autoencoders(results.autoencoders, sizes, chosen),
    ]
    return [_with_seeds_if_any(table) for table in tables if table.rows], chosen


def headlines_markdown(results: Results) -> str:
    """The tables of `headline_tables`, and the substitutes that the best experiments depend on."""
    tables, chosen = headline_tables(results)
    parts = []
    for table in tables:
        parts += [f"**{table.title}.** {table.note}", table.markdown()]
    substitutes = dict.fromkeys(name for row in chosen for name in row["substitutes"])
    if substitutes:
        names = ", ".join(f"`{name}`" for name in substitutes)
        parts.append(f"Substitutes, files of a mirror that differ from the official ones: {names}.")
    return "\n\n".join(parts)


def _with_seeds_if_any(table: Table) -> Table:
    if OVER_SEEDS not in table.heads:
        return table
    place = table.heads.index(OVER_SEEDS)
    if any(row[place] != MISSING for row in table.rows):
        return table
    rows = tuple((*row[:place], *row[place + 1 :]) for row in table.rows)
    return replace(table, heads=(*table.heads[:place], *table.heads[place + 1 :]), rows=rows)


def _over_seeds(rows: Iterable[Row], metric: str, show: Callable[[float | None], str]) -> str:
    """The best mean over seeds and its standard deviation, the number of seeds, and whose it is."""
    mean, spread = f"seeds/{metric}_mean", f"seeds/{metric}_std"
    several = [row for row in rows if row.get(mean) is not None]
    if not several:
        return MISSING
    best = _best(several, mean)
    return f"{show(best[mean])} ± {show(best[spread])} ({best['cell']}, {whole(best['seeds/num'])} seeds)"


def _classification(rows: Sequence[Row], sizes: Mapping[str, str], chosen: list[Row]) -> Table:
    ours = [row for row in rows if "architecture" in row]
    lines = []
    for dataset in _datasets(ours):
        best = _best([row for row in ours if row["dataset"] == dataset], "test/top1")
        own = [row for row in ours if row["dataset"] == dataset and row["architecture"] != PRETRAINED]
        published = [row for row in rows if row["dataset"] == dataset and "source" in row]
        chance = [row for row in rows if row["dataset"] == dataset and row["cell"] == CHANCE]
        chosen.append(best)
        lines.append(
            (
                sizes.get(dataset, dataset),
                best["cell"],
                percent_with_interval(best["test/top1"], best["test/top1_low"], best["test/top1_high"]),
                _named(own, "test/top1", percent),
                _named(published, "test/top1", percent),
                _value(chance, "test/top1", percent),
                _over_seeds([row for row in ours if row["dataset"] == dataset], "test/top1", percent),
                _command("evaluate_classifier", best),
            )
        )
    heads = (
        *("test data", "best", "top-1, %", "best without ImageNet weights", "published", "chance", OVER_SEEDS),
        "reproduce",
    )
    return Table("Classification", "Top-1 on the test split, with its 95 % interval.", heads, tuple(lines), num_names=2)


def _captions(rows: Sequence[Row], sizes: Mapping[str, str], chosen: list[Row]) -> Table:
    ours = [row for row in rows if row["set"] == "test"]
    lines = []
    for dataset in _datasets(ours):
        best = _best([row for row in ours if row["dataset"] == dataset], "cider_d")
        beside = {row["set"]: row for row in rows if row["cell"] == best["cell"]}
        chosen.append(best)
        lines.append(
            (
                sizes.get(dataset, dataset),
                best["cell"],
                _interval(best, "cider_d", decimal),
                percent(best["bleu4"]),
                *(
                    _value([beside[name]] if name in beside else [], "cider_d", decimal)
                    for name in ("floor_nearest", "floor_constant", "human")
                ),
                _over_seeds([row for row in ours if row["dataset"] == dataset], "test/cider_d", decimal),
                _command("score_captions", best),
            )
        )
    heads = (
        *("test data", "best", "CIDEr-D", "BLEU-4, %", "nearest image's caption", "constant caption", "human caption"),
        *(OVER_SEEDS, "reproduce"),
    )
    note = "CIDEr-D on the test images, with its 95 % interval, beside two baselines and people."
    return Table("Captioning", note, heads, tuple(lines), num_names=2)


def _autoencoders(rows: Sequence[Row], sizes: Mapping[str, str], chosen: list[Row]) -> Table:
    lines = []
    for dataset in _datasets(rows):
        here = [row for row in rows if row["dataset"] == dataset]
        best = _best(here, "test/psnr")
        chosen.append(best)
        lines.append(
            (
                sizes.get(dataset, dataset),
                best["cell"],
                _interval(best, "test/psnr", _decibels),
                _value([row for row in here if row["architecture"] == PCA], "test/psnr", _decibels),
                _decibels(best["test/mean_image_psnr"]),
                _command("evaluate_autoencoder", best),
            )
        )
    heads = ("test data", "best", "PSNR, dB", "principal components", "mean image", "reproduce")
    note = "PSNR of reconstructed test images, with its 95 % interval."
    return Table("Autoencoders", note, heads, tuple(lines), num_names=2)


def _decibels(value: float | None) -> str:
    return decimal(value, decimals=2)


def _datasets(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["dataset"] for row in rows))


def _best(rows: Sequence[Row], metric: str) -> Row:
    return max(rows, key=lambda row: -float("inf") if row[metric] is None else row[metric])


def _interval(row: Row, metric: str, show: Callable[[float | None], str]) -> str:
    return f"{show(row[metric])} ({show(row[f'{metric}_low'])} to {show(row[f'{metric}_high'])})"


def _value(rows: Sequence[Row], metric: str, show: Callable[[float | None], str]) -> str:
    return show(_best(rows, metric)[metric]) if rows else MISSING


def _named(rows: Sequence[Row], metric: str, show: Callable[[float | None], str]) -> str:
    """The best value and whose it is."""
    if not rows:
        return MISSING
    best = _best(rows, metric)
    return f"{show(best[metric])} ({best['cell']})"


def _command(stage: str, row: Row) -> str:
    return f"`dvc repro {stage}@{row['cell']}`"
