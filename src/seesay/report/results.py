"""The results: rows for each experiment in params, collected from the metrics files, and all their tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seesay.autoencoding.page import autoencoder_tables, describe_start
from seesay.captioning.tables import caption_tables, describe_decoding, describe_features, describe_training
from seesay.classification.tables import classifier_tables
from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json
from seesay.core.paths import Paths, cell_name
from seesay.core.stage import read_stage_json
from seesay.params.captioning import CaptionerTraining
from seesay.params.project import Params
from seesay.params.training import CLASSIFIERS, name_in
from seesay.plotting.table import CHANCE, Footnotes, Row, Table, Timings, whole

REQUIRED_CAPTION_SETS = ("test", "val", "test_shuffled", "floor_constant", "floor_random")
_MCNEMAR = ("mcnemar/b", "mcnemar/c", "mcnemar/p")
CAPTION_SETS = (*REQUIRED_CAPTION_SETS, "floor_nearest", "human")


@dataclass(frozen=True)
class Results:
    """The rows of all results tables: flat dicts with metric keys. Numbers that are not finite are None.

    `classification` has a row per classifier, one per dataset for chance, and one per published result, which has a
    `source`. `captions` has a row per captioner and scored set of captions: the model's, those with shuffled images,
    the baselines'. The row of the test captions also holds the results of the comparison of captioners.
    """

    classification: list[Row]
    autoencoders: list[Row]
    captions: list[Row]
    datasets: list[Row]


def collect_results(params: Params, paths: Paths) -> Results:
    """Collect the results of the experiments in params, ignoring other files in metrics/.

    Raises `InputError` naming the experiment and the file where one is missing or lacks a key.
    """
    return Results(
        classification=_classification(params, paths),
        autoencoders=[_autoencoder(cell, params, paths) for cell in params.autoencoders],
        captions=[row for cell in params.captioners for row in _captions(cell, params, paths)],
        datasets=[
            *(_dataset("prepare_images", name, paths) for name in params.image_datasets),
            *(_dataset("prepare_captions", name, paths) for name in params.caption_datasets),
        ],
    )


def write_results(path: Path, results: Results) -> None:
    write_json(path, asdict(results))


def read_results(path: Path) -> Results:
    """Read the file that `write_results` writes; raises `InputError` for any other."""
    content = read_json(path)
    names = list(Results.__dataclass_fields__)
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise InputError(f"{path}: expected an object with the keys {', '.join(names)}; run the report stage again")
    return Results(**content)


def substituted_files(report: Mapping[str, Any]) -> list[str]:
    """Return the names of files that a mirror substituted for official ones, from a report's `source` note."""
    files = (report.get("source") or {}).get("files") or []
    return sorted(file["name"] for file in files if file.get("is_substitute"))


def _classification(params: Params, paths: Paths) -> list[Row]:
    compared = comparison_rows("compare_classifiers", paths) if params.classifiers else []
    rows = []
    for cell, settings in params.classifiers.items():
        comparison = _classifier_row(cell, compared, paths)
        evaluated = _metrics("evaluate_classifier", cell, paths, ["test/top1", "test/num_images"])
        trained = _metrics("train_classifier", cell, paths, ["best_epoch", "num_epochs"])
        costs = {key: _number(comparison.get(key)) for key in ("num_parameters", "flops")}
        extra = {key: _number(comparison[key]) for key in ("training_flops", *_MCNEMAR) if key in comparison}
        extra |= {key: comparison[key] for key in ("mcnemar/next", "built_on") if key in comparison}
        learning = {key: trained[key] for key in ("best_epoch", "num_epochs")}
        names = {"cell": cell, "dataset": settings.dataset, "architecture": settings.architecture.name}
        names |= {key: value for key, value in settings.architecture.arguments.items() if key == "network"}
        rows.append(
            {**names, **costs, **extra, **learning, **evaluated, "substitutes": list(comparison["substitutes"])}
        )
    datasets = list(dict.fromkeys(settings.dataset for settings in params.classifiers.values()))
    for row in compared:
        if row.get("cell") == CHANCE and row.get("dataset") in datasets:
            numbers = {key: _number(value) for key, value in row.items() if key.startswith("test/")}
            rows.append({"cell": CHANCE, "dataset": row["dataset"], **numbers, "substitutes": []})
        elif "source" in row:
            known = {key: value for key, value in row.items() if key.startswith("test/") or key == "num_parameters"}
            numbers = {key: _number(value) for key, value in known.items()}
            names = {key: row[key] for key in ("cell", "dataset", "source")}
            rows.append({**names, **numbers, "substitutes": []})
    datasets += [str(row["dataset"]) for row in rows]  # published results may be of other datasets
    return sorted(rows, key=lambda row: datasets.index(row["dataset"]))


def _classifier_row(cell: str, compared: Sequence[Row], paths: Paths) -> Row:
    comparison = next((row for row in compared if row.get("cell") == cell and "source" not in row), None)
    if comparison is None:
        path = paths.metrics("compare_classifiers")
        raise InputError(f"{path}: no row for the classifier {cell}, which params.yaml names")
    return comparison


def comparison_rows(stage: str, paths: Paths) -> list[Row]:
    """Read the rows of a comparison's metrics file, without the keys that stand for nothing."""
    path = paths.metrics(stage)
    rows = read_stage_json(path, stage, None).get("rows")
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list under the key rows")
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _autoencoder(cell: str, params: Params, paths: Paths) -> Row:
    settings = params.autoencoders[cell]
    keys = ["test/mse", "test/psnr", "test/mean_image_psnr"]
    return {
        "cell": cell,
        "dataset": settings.dataset,
        "architecture": settings.architecture.name,
        "starts_from": describe_start(settings),
        **({} if settings.masking is None else settings.masking.model_dump()),
        **_metrics("evaluate_autoencoder", cell, paths, keys),
        **_metrics("explain_autoencoder", cell, paths, []),
        "substitutes": substituted_files(_report("prepare_images", settings.dataset, paths)),
    }


def _captions(cell: str, params: Params, paths: Paths) -> list[Row]:
    learning, decoding = params.captioners[cell].learning, params.captioners[cell].decoding
    required = [f"{name}/cider_d" for name in REQUIRED_CAPTION_SETS]
    metrics = _metrics("score_captions", cell, paths, required)
    files = _captioner_substitutes(learning, params, paths)
    compared = _compared_captioner(cell, paths)
    names = {
        "cell": cell,
        "dataset": learning.datasets[0],
        "architecture": learning.architecture.name,
        "features": learning.features[0],
        "sees": describe_features(params.features[learning.features[0]], str(compared.get("looks_at", ""))),
        "search": describe_decoding(decoding),
        "learned": describe_training(learning),
    }
    rows = []
    for name in CAPTION_SETS:
        scores = {key.removeprefix(f"{name}/"): value for key, value in metrics.items() if key.startswith(f"{name}/")}
        if scores:
            comparison = compared if name == "test" else {}
            rows.append({**names, "set": name, **comparison, **scores, "substitutes": files})
    return rows


def _captioner_substitutes(learning: CaptionerTraining, params: Params, paths: Paths) -> list[str]:
    """Return the substituted files among a captioner's captions, images and encoder weights.

    Where its encoder is one of our classifiers, this includes the files that the classifier was trained on.
    """
    files: list[str] = []
    for features, dataset in learning.dataset_of_features.items():
        files += substituted_files(_report("prepare_captions", dataset, paths))
        files += substituted_files(_report("extract_features", features, paths))
        classifier = name_in(CLASSIFIERS, params.features[features].encoder)
        if classifier is not None:
            files += _classifier_row(classifier, comparison_rows("compare_classifiers", paths), paths)["substitutes"]
    return list(dict.fromkeys(files))


def _compared_captioner(cell: str, paths: Paths) -> Row:
    """Return a captioner's row in the comparison, without its scores, which are in its own metrics file."""
    path, rows = paths.metrics("compare_captioners"), comparison_rows("compare_captioners", paths)
    row = next((row for row in rows if row.get("cell") == cell and row.get("set") == "test"), None)
    if row is None:
        raise InputError(f"{path}: no row for the captioner {cell}, which params.yaml names")
    texts = {key: row[key] for key in ("looks_at", "built_on", "next") if key in row}
    numbers = ("num_parameters", "shuffled_drop", *(key for key in row if key.startswith(("next/", "seeds/"))))
    return texts | {key: _number(row[key]) for key in numbers if key in row}


def _dataset(stage: str, name: str, paths: Paths) -> Row:
    report = _report(stage, name, paths)
    num_images = report.get("num_images")
    if not isinstance(num_images, Mapping):
        raise InputError(f"{paths.data_report(stage, name)}: num_images: expected a number per split")
    num_captions = report.get("num_captions")
    return {
        "dataset": name,
        "kind": stage.removeprefix("prepare_"),
        "num_images": dict(num_images),
        "num_captions": dict(num_captions) if isinstance(num_captions, Mapping) else None,
        "substitutes": substituted_files(report),
    }


def _report(stage: str, dataset: str, paths: Paths) -> Mapping[str, Any]:
    return read_stage_json(paths.data_report(stage, dataset), stage, dataset)


def _metrics(stage: str, cell: str, paths: Paths, required: Iterable[str]) -> dict[str, float | None]:
    path = paths.metrics(stage, cell)
    content = read_stage_json(path, stage, cell)
    missing = [key for key in required if key not in content]
    if missing:
        raise InputError(f"{path}: the results of {cell_name(stage, cell)} have no {', '.join(missing)}")
    return {key: _number(value) for key, value in content.items()}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def results_tables(results: Results, timings: Timings) -> tuple[dict[str, list[Table]], list[str]]:
    """Return the tables that have rows by section, and their footnotes.

    The sections are `classification`, `autoencoders`, `captions` and `data`. `timings` come from the run records;
    columns without a value are left out.
    """
    notes = Footnotes()
    sections = {
        "classification": classifier_tables(results.classification, timings, notes),
        "autoencoders": autoencoder_tables(results.autoencoders, notes),
        "captions": caption_tables(results.captions, timings, notes),
        "data": [_datasets(results.datasets, notes)],
    }
    return {name: [table for table in tables if table.rows] for name, tables in sections.items()}, notes.texts()


def results_markdown(
    results: Results, *, title: str, note: str, provenance: str, timings: Timings, figures: Iterable[tuple[str, str]]
) -> str:
    """Return reports/results.md: figures, the tables, their provenance, and footnotes on substituted files.

    `figures` are pairs of a path relative to reports/ and a description.
    """
    sections, footnotes = results_tables(results, timings)
    parts = [f"# {title}", " ".join(part for part in (note, provenance) if part)]
    parts += [f"![{description}]({path})" for path, description in figures]
    for table in itertools.chain(*sections.values()):
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
