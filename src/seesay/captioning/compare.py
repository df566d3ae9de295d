"""Comparison of the captioners of each dataset: ranking, significance, floors, and test images to show for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

import numpy as np

from seesay.captioning.data.records import CaptionRecord, CaptionRecords, read_caption_records
from seesay.captioning.data.tokenizer import tokenize, tokenize_all, tokenize_references
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.predictions import Prediction, read_caption_predictions
from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import Paths
from seesay.params import captioning
from seesay.params.results import Evaluation
from seesay.resampling import paired_bootstrap
from seesay.seeding import numpy_generator
from seesay.training.checkpoint import load_checkpoint

FLOORS = {
    "floor_constant": "best constant caption",
    "floor_random": "random training caption",
    "floor_nearest": "nearest neighbour",
    "human": "human",
}
"""Sets of captions that are not a captioner's, and the name of their row."""

KINDS = ("best", "disagreeing", "random", "worst")
"""Reasons for which a test image is shown, in the order of the page."""

_SCORES = ("cider_d", "cider_d_low", "cider_d_high", "bleu4", "rouge_l")


@dataclass(frozen=True)
class ScoredCaption:
    """One caption of an image; `log_probability` is None where the predictions do not have it."""

    caption: str
    cider_d: float
    log_probability: float | None = None


@dataclass(frozen=True)
class ScoredPredictions:
    """One captioner's scored captions of the test images, by image id.

    `chosen` are its captions. `alternatives` are all captions that decoding returned, best first, the chosen one
    included; empty where the predictions have none.
    """

    cell: str
    chosen: Mapping[int, ScoredCaption]
    alternatives: Mapping[int, tuple[ScoredCaption, ...]]

    @property
    def cider_d(self) -> dict[int, float]:
        return {image_id: one.cider_d for image_id, one in self.chosen.items()}


@dataclass(frozen=True)
class Comparison:
    """The comparison of all captioners.

    `rows` has, for each dataset, a flat dictionary per captioner, in the order of params, then one per floor and for
    human captions. `captions` are the datasets; `captioned` are the scored predictions by dataset, from the best
    captioner down.
    """

    rows: list[dict[str, Any]]
    captions: Mapping[str, CaptionRecords]
    captioned: Mapping[str, list[ScoredPredictions]]


def compare_captioners(cells: Mapping[str, captioning.Captioner], paths: Paths, settings: Evaluation) -> Comparison:
    """Compare all captioners of params, each with those of its own dataset.

    A row holds cell, dataset, set ("test", or the floor's), architecture, looks_at, num_parameters, built_on if any,
    test scores, `shuffled_drop`, the keys of `spread_over_seeds`, and the paired bootstrap against the next in the
    ranking. Raises `InputError` for a checkpoint, metrics or predictions file that is missing or does not fit the
    others.
    """
    rows: list[dict[str, Any]] = []
    captions: dict[str, CaptionRecords] = {}
    captioned: dict[str, list[ScoredPredictions]] = {}
    for dataset in dict.fromkeys(cell.learning.datasets[0] for cell in cells.values()):
        captions[dataset] = read_caption_records(paths.captions(dataset))
        records = captions[dataset].of("test")
        references = count_references(records)
        group = {name: cell.learning for name, cell in cells.items() if cell.learning.datasets[0] == dataset}
        metrics = {name: _metrics(paths, name) for name in group}
        scored = {}
        captioner_rows = []
        for name, learning in group.items():
            test = read_caption_predictions(paths.caption_predictions(name), captions[dataset])["test"]
            scored[name] = score_candidates(name, test, records, references)
            captioner = restore_captioner(load_checkpoint(paths.captioner(name), kind="captioner"))
            facts: dict[str, Any] = {"architecture": learning.architecture.name, "looks_at": captioner.looks_at}
            facts["num_parameters"] = sum(parameter.numel() for parameter in captioner.parameters())
            if learning.parents:
                facts["built_on"] = ", ".join(learning.parents)
            captioner_rows.append(captioner_row(name, dataset, metrics[name], **facts))
        resamples, seed = settings.bootstrap_resamples, settings.bootstrap_seed
        tests = compare_ranked(captioner_rows, scored, resamples=resamples, seed=seed)
        spread = spread_over_seeds(captioner_rows, cells)
        rows += [row | spread.get(row["cell"], {}) | tests.get(row["cell"], {}) for row in captioner_rows]
        rows += floor_rows(dataset, metrics, {name: learning.features[0] for name, learning in group.items()})
        captioned[dataset] = [scored[row["cell"]] for row in ranked(captioner_rows)]
    return Comparison(rows, captions, captioned)


def count_references(records: Sequence[CaptionRecord]) -> CiderReferences:
    """Return the n-gram counts of the references of these images, shared by all captioners."""
    return CiderReferences(tokenize_references([record.captions for record in records]))


def score_candidates(
    cell: str, predictions: Sequence[Prediction], records: Sequence[CaptionRecord], references: CiderReferences
) -> ScoredPredictions:
    """Score every caption and alternative by CIDEr-D; `predictions` and `references` are in the records' order."""
    assert [one["image_id"] for one in predictions] == [record.image_id for record in records]
    captions = [one["caption"] for one in predictions]
    values = references.score(tokenize_all(captions))
    chosen = {
        record.image_id: ScoredCaption(caption, float(value))
        for record, caption, value in zip(records, captions, values, strict=True)
    }
    alternatives: list[list[Mapping[str, Any]]] = [list(one.get("alternatives") or []) for one in predictions]
    scored: dict[int, list[ScoredCaption]] = {record.image_id: [] for record in records}
    for rank in range(max(map(len, alternatives), default=0)):
        # Images with fewer alternatives repeat their caption, so that one pass scores all images.
        texts = [
            str(each[rank]["caption"]) if rank < len(each) else caption
            for each, caption in zip(alternatives, captions, strict=True)
        ]
        values = references.score([tokenize(text) for text in texts])
        for record, each, text, value in zip(records, alternatives, texts, values, strict=True):
            if rank < len(each):
                log_probability = float(each[rank]["log_probability"])
                scored[record.image_id].append(ScoredCaption(text, float(value), log_probability))
    return ScoredPredictions(cell, chosen, {image_id: tuple(ones) for image_id, ones in scored.items() if ones})


def captioner_row(cell: str, dataset: str, metrics: Mapping[str, float], **facts: Any) -> dict[str, Any]:
    """Return one captioner's row: `facts`, the test scores that `metrics` has, and `shuffled_drop`.

    That is the share of CIDEr-D lost when each image's features are replaced by another image's.
    """
    row = {"cell": cell, "dataset": dataset, "set": "test", **facts, **_scores(metrics, "test")}
    score, shuffled = metrics["test/cider_d"], metrics["test_shuffled/cider_d"]
    row["test_shuffled/cider_d"] = shuffled
    if score > 0:
        row["shuffled_drop"] = (score - shuffled) / score
    return row


def floor_rows(
    dataset: str, metrics: Mapping[str, Mapping[str, float]], features: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return a row per floor and one for human captions, from the first of `metrics` (by cell) that has them.

    The nearest neighbour depends on the features and has a row for each of them. `features` are by cell.
    """
    rows = []
    done: set[tuple[str, str]] = set()
    for cell, cell_metrics in metrics.items():
        for name, label in FLOORS.items():
            feature_name = features[cell] if name == "floor_nearest" else ""
            if f"{name}/cider_d" not in cell_metrics or (name, feature_name) in done:
                continue
            done.add((name, feature_name))
            row_name = f"{label} ({feature_name})" if feature_name else label
            rows.append({"cell": row_name, "dataset": dataset, "set": name, **_scores(cell_metrics, name)})
    order = list(FLOORS)
    return sorted(rows, key=lambda row: order.index(row["set"]))


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the captioners among `rows` by test CIDEr-D, the best first; equals in the order of `rows`."""
    return sorted((row for row in rows if row["set"] == "test"), key=lambda row: -row["test/cider_d"])


def compare_ranked(
    rows: Sequence[Mapping[str, Any]], captioned: Mapping[str, ScoredPredictions], *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Test each captioner of one dataset's ranking against the next one; the last has no entry.

    An entry has `next`, the cell ranked below, and the difference of their CIDEr-D on the same test images, its 95 %
    interval and p, from a paired bootstrap over the images.
    """
    tests: dict[str, dict[str, Any]] = {}
    for better, worse in pairwise(ranked(rows)):
        first, second = captioned[better["cell"]].cider_d, captioned[worse["cell"]].cider_d
        pair = [np.array([scores[image_id] for image_id in sorted(first)]) for scores in (first, second)]
        test = paired_bootstrap(*pair, resamples=resamples, seed=seed)
        tests[better["cell"]] = {
            "next": worse["cell"],
            "next/difference": test.difference,
            "next/difference_low": test.low,
            "next/difference_high": test.high,
            "next/p": test.p,
        }
    return tests


def spread_over_seeds(
    rows: Sequence[Mapping[str, Any]], cells: Mapping[str, captioning.Captioner]
) -> dict[str, dict[str, float]]:
    """Return the mean and the sample standard deviation of test CIDEr-D over captioners that differ in their seed only.

    The first captioner of each such group has `seeds/num`, `seeds/test/cider_d_mean` and `seeds/test/cider_d_std`.
    Captioners that start from others are alike where those are.
    """

    def recipe(cell: str) -> str:
        learning = cells[cell].learning.model_dump() | {"seed": None}
        parents = sorted(recipe(parent) for parent in cells[cell].learning.parents)
        return repr((learning | {"start": parents}, cells[cell].decoding.model_dump()))

    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(recipe(row["cell"]), []).append(row)
    spread = {}
    for group in groups.values():
        values = [row["test/cider_d"] for row in group]
        if len(values) > 1:
            spread[group[0]["cell"]] = {
                "seeds/num": float(len(values)),
                "seeds/test/cider_d_mean": fmean(values),
                "seeds/test/cider_d_std": stdev(values),
            }
    return spread


def choose_shared_cases(
    scores: Mapping[str, Mapping[int, float]],
    alternatives: Mapping[int, Sequence[float]],
    count: int,
    *,
    seed: int,
) -> list[tuple[str, int]]:
    """Return (kind, image id) of up to `count` distinct images, a fourth of each kind; the remainder is random.

    `scores` are CIDEr-D by captioner and image, all of the same images. Best and worst are by the captioners' mean,
    disagreeing by the range from the lowest to the highest. With one captioner that is the range of its own
    `alternatives`' CIDEr-D. Ties are broken by image id.
    """
    first = next(iter(scores.values()))
    assert all(set(by_image) == set(first) for by_image in scores.values())
    mean = {image_id: fmean(by_image[image_id] for by_image in scores.values()) for image_id in first}

    def spread(image_id: int) -> float:
        values = [by_image[image_id] for by_image in scores.values()]
        if len(scores) == 1:
            values = list(alternatives.get(image_id, values))
        return max(values) - min(values)

    count = min(count, len(first))
    fourth = count // 4
    remaining = set(first)
    chosen: dict[str, list[int]] = {}

    def take(kind: str, order: Sequence[int]) -> None:
        chosen[kind] = [image_id for image_id in order if image_id in remaining][:fourth]
        remaining.difference_update(chosen[kind])

    take("best", sorted(first, key=lambda image_id: (-mean[image_id], image_id)))
    take("worst", sorted(first, key=lambda image_id: (mean[image_id], image_id)))
    take("disagreeing", sorted(first, key=lambda image_id: (-spread(image_id), image_id)))
    others = sorted(remaining)
    positions = numpy_generator(seed, "shared cases").permutation(len(others))[: count - 3 * fourth]
    chosen["random"] = [others[position] for position in np.sort(positions)]
    return [(kind, image_id) for kind in KINDS for image_id in chosen[kind]]


def describe_shared_rule(chosen: Sequence[tuple[str, int]], num_captioners: int, *, seed: int) -> str:
    """Describe in a sentence how the cases were chosen."""
    counts = {kind: sum(other == kind for other, _ in chosen) for kind in KINDS}
    by = "mean CIDEr-D of the captioners" if num_captioners > 1 else "CIDEr-D"
    between = "captioners' CIDEr-D differs" if num_captioners > 1 else "alternatives' CIDEr-D differs"
    return (
        f"Test images, the same for every captioner: the {counts['best']} with the highest {by}, the "
        f"{counts['worst']} with the lowest, of the others the {counts['disagreeing']} where the {between} most, and "
        f"{counts['random']} drawn at random from the rest (seed {seed})."
    )


def _scores(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """Return a set's scores, all under `test/`: floors and human captions are scored on the test images too."""
    return {f"test/{key}": metrics[f"{name}/{key}"] for key in _SCORES if f"{name}/{key}" in metrics}


def _metrics(paths: Paths, cell: str) -> Mapping[str, float]:
    path = paths.metrics("score_captions", cell)
    metrics: Any = read_json(path)
    for key in ("test/cider_d", "test_shuffled/cider_d"):
        if not isinstance(metrics, dict) or key not in metrics:
            raise InputError(f"{path}: expected an object with the key {key}; run score_captions of {cell} again")
    return dict(metrics)
