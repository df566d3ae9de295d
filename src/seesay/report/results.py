"""The rows of all results tables: those of each cell that params name, collected from the metrics files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seesay.autoencoding.tables import starts_from
from seesay.captioning.tables import describe_decoding, describe_features, describe_training
from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json
from seesay.core.paths import Paths, cell_name
from seesay.core.stage import read_stage_json
from seesay.params.captioning import CaptionerTraining
from seesay.params.project import Params
from seesay.params.references import CLASSIFIERS, name_in
from seesay.plotting.table import CHANCE, Row

REQUIRED_CAPTION_SETS = ("test", "val", "test_shuffled", "floor_constant", "floor_random")
_MCNEMAR = ("mcnemar/b", "mcnemar/c", "mcnemar/p")
CAPTION_SETS = (*REQUIRED_CAPTION_SETS, "floor_nearest", "human")


@dataclass(frozen=True)
class Results:
    """The rows of every results table: flat dicts with metric keys; numbers that are not finite are None.

    `classification` has a row per classifier, per dataset's chance and per published result, which has a `source`.
    `captions` has a row per captioner and set of captions scored (the model's, its images shuffled, the floors); that
    of its test images also has what the comparison of captioners found.
    """

    classification: list[Row]
    autoencoders: list[Row]
    captions: list[Row]
    datasets: list[Row]


def collect_results(params: Params, paths: Paths) -> Results:
    """The results of the cells in params, never of whatever files lie in metrics/.

    Raises `InputError` naming the cell and the file where one is missing or lacks a key.
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
    """What `write_results` wrote; raises `InputError` for anything else."""
    content = read_json(path)
    names = list(Results.__dataclass_fields__)
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise InputError(f"{path}: expected an object with the keys {', '.join(names)}; run the report stage again")
    return Results(**content)


def substituted_files(report: Mapping[str, Any]) -> list[str]:
    """Names of the files a mirror gave in place of the official ones, from a report's `source` note."""
    files = (report.get("source") or {}).get("files") or []
    return sorted(file["name"] for file in files if file.get("is_substitute"))


def _classification(params: Params, paths: Paths) -> list[Row]:
    compared = _rows_of("compare_classifiers", paths) if params.classifiers else []
    rows = []
    for cell, settings in params.classifiers.items():
        found = _classifier_row(cell, compared, paths)
        evaluated = _metrics("evaluate_classifier", cell, paths, ["test/top1", "test/num_images"])
        trained = _metrics("train_classifier", cell, paths, ["best_epoch", "num_epochs"])
        costs = {key: _number(found.get(key)) for key in ("num_parameters", "flops")}
        extra = {key: _number(found[key]) for key in ("training_flops", *_MCNEMAR) if key in found}
        extra |= {key: found[key] for key in ("mcnemar/next", "built_on") if key in found}
        learning = {key: trained[key] for key in ("best_epoch", "num_epochs")}
        names = {"cell": cell, "dataset": settings.dataset, "architecture": settings.architecture.name}
        rows.append({**names, **costs, **extra, **learning, **evaluated, "substitutes": list(found["substitutes"])})
    datasets = list(dict.fromkeys(settings.dataset for settings in params.classifiers.values()))
    for row in compared:
        if row.get("cell") == CHANCE and row.get("dataset") in datasets:
            numbers = {key: _number(value) for key, value in row.items() if key.startswith("test/")}
            rows.append({"cell": CHANCE, "dataset": row["dataset"], **numbers, "substitutes": []})
        elif "source" in row:
            numbers = {key: _number(value) for key, value in row.items() if key.startswith("test/")}
            names = {key: row[key] for key in ("cell", "dataset", "source")}
            rows.append({**names, **numbers, "substitutes": []})
    datasets += [str(row["dataset"]) for row in rows]  # what others have published may be of other datasets
    return sorted(rows, key=lambda row: datasets.index(row["dataset"]))


def _classifier_row(cell: str, compared: Sequence[Row], paths: Paths) -> Row:
    found = next((row for row in compared if row.get("cell") == cell and "source" not in row), None)
    if found is None:
        path = paths.metrics("compare_classifiers")
        raise InputError(f"{path}: no row for the classifier {cell}, which params.yaml names")
    return found


def _rows_of(stage: str, paths: Paths) -> list[Row]:
    """What a comparison has found, a row each."""
    path = paths.metrics(stage)
    rows = read_stage_json(path, stage, None).get("rows")
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected the key rows with a list")
    return rows


def _autoencoder(cell: str, params: Params, paths: Paths) -> Row:
    settings = params.autoencoders[cell]
    keys = ["test/mse", "test/psnr", "test/mean_image_psnr"]
    return {
        "cell": cell,
        "dataset": settings.dataset,
        "architecture": settings.architecture.name,
        "starts_from": starts_from(settings),
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
            found = compared if name == "test" else {}
            rows.append({**names, "set": name, **found, **scores, "substitutes": files})
    return rows


def _captioner_substitutes(learning: CaptionerTraining, params: Params, paths: Paths) -> list[str]:
    """Of all that a captioner has learned from: captions, images, its encoder's weights, and what a classifier of ours
    that is its encoder had learned from."""
    files: list[str] = []
    for dataset, features in zip(learning.datasets, learning.features, strict=True):
        files += substituted_files(_report("prepare_captions", dataset, paths))
        files += substituted_files(_report("extract_features", features, paths))
        classifier = name_in(CLASSIFIERS, params.features[features].encoder)
        if classifier is not None:
            files += _classifier_row(classifier, _rows_of("compare_classifiers", paths), paths)["substitutes"]
    return list(dict.fromkeys(files))


def _compared_captioner(cell: str, paths: Paths) -> Row:
    """What the comparison of captioners has found of one, less its scores, which its own metrics file holds."""
    path, rows = paths.metrics("compare_captioners"), _rows_of("compare_captioners", paths)
    found = next((row for row in rows if row.get("cell") == cell and row.get("set") == "test"), None)
    if found is None:
        raise InputError(f"{path}: no row for the captioner {cell}, which params.yaml names")
    texts = {key: found[key] for key in ("looks_at", "built_on", "next") if key in found}
    numbers = ("num_parameters", "shuffled_drop", *(key for key in found if key.startswith("next/")))
    return texts | {key: _number(found[key]) for key in numbers if key in found}


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
