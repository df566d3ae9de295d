"""The page's section on data: splits, classes, caption lengths, features, and images that were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seesay.captioning.tables import describe_encoder
from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.params.datasets import Features
from seesay.params.project import Params
from seesay.plotting.table import Table, decimal, percent, whole
from seesay.report.results import substituted_files

SPLITS = ("train", "val", "test")
_MAX_LISTED = 40
_MAX_SIZES = 6


@dataclass(frozen=True)
class DataTable:
    """A small table. Where `is_long`, the page shows it folded."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_long: bool = False

    def as_table(self, dataset: str) -> Table:
        """Return the table of one dataset, as the page shows it."""
        return Table(f"{self.title}, {dataset}", "", self.heads, self.rows, num_names=1)


@dataclass(frozen=True)
class DataReport:
    """A report on one dataset: facts as (name, value), tables, the rule for exclusions, and substituted files."""

    name: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[DataTable, ...]
    rule: str
    substitutes: tuple[str, ...]


def read_data_reports(params: Params, paths: Paths) -> list[DataReport]:
    """Read the reports on all datasets and features in params; raises `InputError` where one is missing."""
    sections = []
    for stage, names in (("prepare_images", params.image_datasets), ("prepare_captions", params.caption_datasets)):
        for name in names:
            report = read_stage_json(paths.data_report(stage, name), stage, name)
            sections.append(_image_report(name, report) if stage == "prepare_images" else _caption_report(name, report))
    for name, settings in params.features.items():
        stage = "extract_features"
        report = read_stage_json(paths.data_report(stage, name), stage, name)
        sections.append(_feature_report(name, settings, report, _explained_variance(paths, stage, name)))
    return sections


def _explained_variance(paths: Paths, stage: str, name: str) -> dict[str, float]:
    """Return the variance that principal components explain, by kind of features; empty without components."""
    path = paths.metrics(stage, name)
    metrics = read_stage_json(path, stage, name) if path.is_file() else {}
    suffix = "/explained_variance"
    return {key.removesuffix(suffix): value for key, value in metrics.items() if key.endswith(suffix)}


def _feature_report(
    name: str, settings: Features, report: Mapping[str, Any], explained: Mapping[str, float]
) -> DataReport:
    """Return the report on features, from their settings and the report of their extraction."""
    grid, trained_on = settings.grid_size, report.get("trained_on") or {}
    weights = (report.get("source") or {}).get("files") or []
    variance = ", ".join(f"{kind} {percent(share)} %" for kind, share in explained.items())
    facts = (
        ("dataset", settings.dataset),
        ("encoder", describe_encoder(settings)),
        ("weights", ", ".join(file["name"] for file in weights) or "none; see encoder"),
        ("images", whole(report.get("num_images"))),
        ("dimensions", whole(report.get("num_dimensions"))),
        ("features", "pooled only" if grid is None else f"pooled, and a {grid}×{grid} grid"),
        ("preprocessing", f"shorter side {settings.resize_size} pixels, centre crop {settings.image_size}"),
        ("principal components", "none" if settings.num_components is None else whole(settings.num_components)),
        *((("explained variance", variance),) if variance else ()),
        *((("encoder trained on", str(trained_on["dataset"])),) if "dataset" in trained_on else ()),
    )
    return DataReport(name, "features", facts, (), "", tuple(substituted_files(report)))


def _image_report(name: str, report: Mapping[str, Any]) -> DataReport:
    classes = report.get("classes", [])
    leakage, duplicates = report.get("leakage", {}), report.get("duplicates", {})
    near, unlabelled = report.get("near_duplicates", {}), report.get("unlabelled", [])
    facts = (
        *_per_split("images", report.get("num_images", {})),
        ("classes", str(len(classes))),
        ("image size", f"{report.get('image_size', '–')} pixels"),
        ("image sizes", _most_common(report.get("sizes", {}))),
        ("image modes", _counts(report.get("modes", {}))),
        ("undecodable", str(len(report.get("undecodable", [])))),
        ("left out", _counts(report.get("num_left_out", {}))),
        ("duplicates within splits", _counts({s: len(duplicates.get(s, [])) for s in SPLITS})),
        ("duplicates between splits", _counts({key.replace("_", " and "): n for key, n in leakage.items()})),
        *((("unlabelled, not used", whole(len(unlabelled))),) if unlabelled else ()),
        *((("pairs of near-duplicates, kept", _counts(near["num_pairs"])),) if near else ()),
    )
    per_class = tuple((c["label"], c["wnid"], *(whole(c.get(split)) for split in SPLITS)) for c in classes)
    left_out = report.get("left_out", [])
    return DataReport(
        name,
        "images",
        facts,
        _non_empty(
            DataTable("Images per class", ("class", "wnid", *SPLITS), per_class, is_long=True),
            _left_out(left_out, "member"),
            _listed("Undecodable", ("file", "reason"), report.get("undecodable", []), ("member", "reason")),
            _listed("Unlabelled", ("file",), [{"file": name} for name in unlabelled], ("file",)),
            _near_duplicates(near),
        ),
        str(report.get("rule", "")),
        tuple(substituted_files(report)),
    )


def _caption_report(name: str, report: Mapping[str, Any]) -> DataReport:
    duplicates, sizes = report.get("duplicates", {}), report.get("image_sizes", {})
    dropped = {key.replace("_", " "): value.get("count", 0) for key, value in report.get("dropped", {}).items()}
    facts = (
        *_per_split("images", report.get("num_images", {})),
        *_per_split("captions", report.get("num_captions", {})),
        ("most common image sizes", _counts(sizes.get("most_common", {}))),
        ("image modes", _counts(report.get("image_modes", {}))),
        ("dropped", _counts(dropped)),
        ("in no split", whole(report.get("images_in_no_split", {}).get("count"))),
        ("left out as duplicates", _counts(duplicates.get("num_left_out", {}))),
        ("duplicates within splits", _counts({s: len(g) for s, g in duplicates.get("within_splits", {}).items()})),
    )
    lengths = report.get("caption_lengths", {})
    length_rows = tuple(
        (
            split,
            decimal(lengths[split].get("mean"), decimals=1),
            *(decimal(lengths[split].get(key), decimals=0) for key in ("min", "median", "max")),
            _captions_per_image(report.get("captions_per_image", {}).get(split, {})),
        )
        for split in SPLITS
        if split in lengths
    )
    heads = ("split", "mean words", "min", "median", "max", "images")
    return DataReport(
        name,
        "captions",
        facts,
        _non_empty(
            DataTable("Caption lengths", heads, length_rows),
            _histogram(lengths),
            _left_out(duplicates.get("left_out", []), "file_name"),
        ),
        str(duplicates.get("rule", "")),
        tuple(substituted_files(report)),
    )


def _captions_per_image(counts: Mapping[str, int]) -> str:
    """Format counts of images by number of captions: `16 with 5 captions, 2 with 1`."""
    parts = [f"{whole(count)} with {number}" for number, count in counts.items()]
    return f"{parts[0]} captions{''.join(f', {part}' for part in parts[1:])}" if parts else "none"


def _histogram(lengths: Mapping[str, Any]) -> DataTable:
    """Return the number of captions by length over all splits, with bars of block characters."""
    totals: dict[int, int] = {}
    for split in lengths.values():
        for length, count in split.get("histogram", {}).items():
            totals[int(length)] = totals.get(int(length), 0) + count
    most = max(totals.values(), default=1)
    rows = tuple(
        (str(length), whole(count), "█" * max(1, round(30 * count / most))) for length, count in sorted(totals.items())
    )
    return DataTable("Captions by number of words", ("words", "captions", ""), rows, is_long=True)


def _left_out(items: Sequence[Mapping[str, Any]], key: str) -> DataTable:
    rows = [
        {**item, "reason": item.get("reason") or item.get("split", ""), "same_as": ", ".join(item.get("same_as", []))}
        for item in items
    ]
    return _listed("Left out", ("file", "reason", "duplicate of"), rows, (key, "reason", "same_as"))


def _near_duplicates(near: Mapping[str, Any]) -> DataTable:
    """Return the pairs of images that look alike; they are reported, and none of them is left out."""
    title = f"Near-duplicates: perceptual hashes at most {near.get('max_distance')} of 64 bits apart"
    rows = [
        {"first": pair["files"][0], "second": pair["files"][1], "splits": " and ".join(pair["splits"]),
         "distance": pair["distance"]}
        for pair in near.get("pairs", [])
    ]  # fmt: skip
    return _listed(title, ("file", "near-duplicate", "splits", "bits"), rows, ("first", "second", "splits", "distance"))


def _listed(title: str, heads: tuple[str, ...], items: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> DataTable:
    """Return a folded table of the first items, a row each, which says how many more there are."""
    rows = [tuple(str(item.get(key, "")) for key in keys) for item in items[:_MAX_LISTED]]
    if len(items) > _MAX_LISTED:
        rows.append((f"and {len(items) - _MAX_LISTED} more", *("" for _ in keys[1:])))
    return DataTable(title, heads, tuple(rows), is_long=True)


def _non_empty(*tables: DataTable) -> tuple[DataTable, ...]:
    return tuple(table for table in tables if table.rows)


def _per_split(name: str, counts: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    return ((name, ", ".join(f"{split} {whole(counts[split])}" for split in SPLITS if split in counts)),)


def _most_common(counts: Mapping[str, int]) -> str:
    """Format the largest counts, and how many others there are: `64x64 500, 640x480 20, and 7 others`."""
    largest = sorted(counts, key=lambda name: -counts[name])[:_MAX_SIZES]
    others = f", and {whole(len(counts) - len(largest))} others" if len(counts) > len(largest) else ""
    return _counts({name: counts[name] for name in largest}) + others


def _counts(counts: Mapping[str, int]) -> str:
    """Format counts: `RGB 16,300, L 176`; "none" where all are 0."""
    return ", ".join(f"{name} {whole(count)}" for name, count in counts.items() if count) or "none"
