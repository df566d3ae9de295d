"""Comparison of a dataset's captioners: the ranking, the differences, and their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from seesay.captioning.data.records import CaptionRecord, CaptionRecords, read_caption_records
from seesay.captioning.data.tokenizer import tokenize
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
"""Sets of captions that are no captioner's, and what a row of theirs is called."""

_COPIED = ("cider_d", "cider_d_low", "cider_d_high", "bleu4", "rouge_l")


@dataclass(frozen=True)
class ScoredCaption:
    """One candidate for an image; `log_probability` None where the predictions do not tell."""

    caption: str
    cider_d: float
    log_probability: float | None = None


@dataclass(frozen=True)
class Captioned:
    """One captioner's test images by image id: `chosen` is the caption it gives, `alternatives` are all that its
    decoding has found, best first, the chosen one among them; empty where it keeps none."""

    cell: str
    chosen: Mapping[int, ScoredCaption]
    alternatives: Mapping[int, tuple[ScoredCaption, ...]]

    @property
    def cider_d(self) -> dict[int, float]:
        return {image_id: one.cider_d for image_id, one in self.chosen.items()}


@dataclass(frozen=True)
class Comparison:
    """`rows`: a flat dictionary per captioner, in the order of params, then per floor and people of each dataset;
    `captions` and, from the best captioner down, `captioned` by dataset."""

    rows: list[dict[str, Any]]
    captions: Mapping[str, CaptionRecords]
    captioned: Mapping[str, list[Captioned]]


def compare_captioners(cells: Mapping[str, captioning.Captioner], paths: Paths, settings: Evaluation) -> Comparison:
    """All captioners of params, each against those of its own dataset.

    A row holds cell, dataset, set ("test", or the floor's), architecture, looks_at, num_parameters, built_on where it
    is, test scores, `shuffled_drop`, and the paired bootstrap against the next in the ranking. Raises `InputError` for
    a missing checkpoint, metrics or predictions file, and for one that does not fit.
    """
    rows: list[dict[str, Any]] = []
    captions: dict[str, CaptionRecords] = {}
    captioned: dict[str, list[Captioned]] = {}
    for dataset in dict.fromkeys(cell.learning.datasets[0] for cell in cells.values()):
        captions[dataset] = read_caption_records(paths.captions(dataset))
        records = captions[dataset].of("test")
        references = count_references(records)
        of_dataset = {name: cell.learning for name, cell in cells.items() if cell.learning.datasets[0] == dataset}
        metrics = {name: _metrics(paths, name) for name in of_dataset}
        found = {}
        own = []
        for name, learning in of_dataset.items():
            test = read_caption_predictions(paths.caption_predictions(name), captions[dataset])["test"]
            found[name] = score_candidates(name, test, records, references)
            captioner = restore_captioner(load_checkpoint(paths.captioner(name), kind="captioner"))
            facts: dict[str, Any] = {"architecture": learning.architecture.name, "looks_at": captioner.looks_at}
            facts["num_parameters"] = sum(parameter.numel() for parameter in captioner.parameters())
            if learning.parent is not None:
                facts["built_on"] = learning.parent
            own.append(captioner_row(name, dataset, metrics[name], **facts))
        resamples, seed = settings.bootstrap_resamples, settings.bootstrap_seed
        tests = compare_ranked(own, found, resamples=resamples, seed=seed)
        rows += [row | tests.get(row["cell"], {}) for row in own]
        rows += floor_rows(dataset, metrics, {name: learning.features[0] for name, learning in of_dataset.items()})
        captioned[dataset] = [found[row["cell"]] for row in ranked(own)]
    return Comparison(rows, captions, captioned)


def count_references(records: Sequence[CaptionRecord]) -> CiderReferences:
    """What the captions of these images are scored against, counted once for all captioners."""
    return CiderReferences([[tokenize(caption) for caption in record.captions] for record in records])


def score_candidates(
    cell: str, predictions: Sequence[Prediction], records: Sequence[CaptionRecord], references: CiderReferences
) -> Captioned:
    """CIDEr-D of every caption and of every alternative; `predictions` and `references` are in the records' order."""
    assert [one["image_id"] for one in predictions] == [record.image_id for record in records]
    captions = [one["caption"] for one in predictions]
    values = references.score([tokenize(caption) for caption in captions])
    chosen = {
        record.image_id: ScoredCaption(caption, float(value))
        for record, caption, value in zip(records, captions, values, strict=True)
    }
    found: list[list[Mapping[str, Any]]] = [list(one.get("alternatives") or []) for one in predictions]
    scored: dict[int, list[ScoredCaption]] = {record.image_id: [] for record in records}
    for rank in range(max(map(len, found), default=0)):
        # Those with fewer alternatives repeat their caption: a pass scores all images at once.
        texts = [
            str(each[rank]["caption"]) if rank < len(each) else own for each, own in zip(found, captions, strict=True)
        ]
        values = references.score([tokenize(text) for text in texts])
        for record, each, text, value in zip(records, found, texts, values, strict=True):
            if rank < len(each):
                likely = float(each[rank]["log_probability"])
                scored[record.image_id].append(ScoredCaption(text, float(value), likely))
    return Captioned(cell, chosen, {image_id: tuple(ones) for image_id, ones in scored.items() if ones})


def captioner_row(cell: str, dataset: str, metrics: Mapping[str, float], **facts: Any) -> dict[str, Any]:
    """One captioner's row: `facts`, its test scores as far as `metrics` has them, and `shuffled_drop`, the share of
    CIDEr-D that it loses when it sees another image in each one's place."""
    row = {"cell": cell, "dataset": dataset, "set": "test", **facts, **_scores(metrics, "test")}
    own, blind = metrics["test/cider_d"], metrics["test_shuffled/cider_d"]
    row["test_shuffled/cider_d"] = blind
    if own > 0:
        row["shuffled_drop"] = (own - blind) / own
    return row


def floor_rows(
    dataset: str, metrics: Mapping[str, Mapping[str, float]], features: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row per floor and one for people, from the first captioner's `metrics` (by cell) that has them; a row per
    feature array for the nearest neighbour, which depends on what it is near in. `features` are by cell."""
    rows = []
    done: set[tuple[str, str]] = set()
    for cell, its_metrics in metrics.items():
        for name, label in FLOORS.items():
            seen = features[cell] if name == "floor_nearest" else ""
            if f"{name}/cider_d" not in its_metrics or (name, seen) in done:
                continue
            done.add((name, seen))
            shown = f"{label} ({seen})" if seen else label
            rows.append({"cell": shown, "dataset": dataset, "set": name, **_scores(its_metrics, name)})
    order = list(FLOORS)
    return sorted(rows, key=lambda row: order.index(row["set"]))


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The captioners among `rows` by test CIDEr-D, the best first; equals in the order of `rows`."""
    return sorted((row for row in rows if row["set"] == "test"), key=lambda row: -row["test/cider_d"])


def compare_ranked(
    rows: Sequence[Mapping[str, Any]], captioned: Mapping[str, Captioned], *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """For each cell but the last of one dataset's ranking: `next`, the cell ranked below it, and the difference of
    their CIDEr-D on the same test images, its 95 % interval and p, from a paired bootstrap over the images."""
    found: dict[str, dict[str, Any]] = {}
    for better, worse in pairwise(ranked(rows)):
        first, second = captioned[better["cell"]].cider_d, captioned[worse["cell"]].cider_d
        pair = [np.array([scores[image_id] for image_id in sorted(first)]) for scores in (first, second)]
        test = paired_bootstrap(*pair, resamples=resamples, seed=seed)
        found[better["cell"]] = {
            "next": worse["cell"],
            "next/difference": test.difference,
            "next/difference_low": test.low,
            "next/difference_high": test.high,
            "next/p": test.p,
        }
    return found


def _scores(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """A set's copied scores, all under `test/`: floors and people are scored on the test images too."""
    return {f"test/{key}": metrics[f"{name}/{key}"] for key in _COPIED if f"{name}/{key}" in metrics}


def _metrics(paths: Paths, cell: str) -> Mapping[str, float]:
    path = paths.metrics("score_captions", cell)
    metrics: Any = read_json(path)
    for key in ("test/cider_d", "test_shuffled/cider_d"):
        if not isinstance(metrics, dict) or key not in metrics:
            raise InputError(f"{path}: expected an object with the key {key}; run score_captions of {cell} again")
    return dict(metrics)


KINDS = ("best", "disagreeing", "random", "worst")


def choose_shared_cases(
    scores: Mapping[str, Mapping[int, float]],
    alternatives: Mapping[int, Sequence[float]],
    count: int,
    *,
    seed: int,
) -> list[tuple[str, int]]:
    """(kind, image id) of up to `count` images, a fourth each kind, none twice; what does not divide is random.

    `scores` are CIDEr-D by captioner and image, all of the same images. Best and worst go by the captioners' mean,
    disagreeing by the distance between the highest and the lowest. A captioner alone cannot disagree with another:
    there it is the distance among its own `alternatives`' CIDEr-D. Equals go by image id.
    """
    first = next(iter(scores.values()))
    assert all(set(of_captioner) == set(first) for of_captioner in scores.values())
    mean = {image_id: fmean(of_captioner[image_id] for of_captioner in scores.values()) for image_id in first}

    def spread(image_id: int) -> float:
        values = [of_captioner[image_id] for of_captioner in scores.values()]
        if len(scores) == 1:
            values = list(alternatives.get(image_id, values))
        return max(values) - min(values)

    count = min(count, len(first))
    fourth = count // 4
    left = set(first)
    chosen: dict[str, list[int]] = {}

    def take(kind: str, order: Sequence[int]) -> None:
        chosen[kind] = [image_id for image_id in order if image_id in left][:fourth]
        left.difference_update(chosen[kind])

    take("best", sorted(first, key=lambda image_id: (-mean[image_id], image_id)))
    take("worst", sorted(first, key=lambda image_id: (mean[image_id], image_id)))
    take("disagreeing", sorted(first, key=lambda image_id: (-spread(image_id), image_id)))
    others = sorted(left)
    drawn_at = numpy_generator(seed, "shared cases").permutation(len(others))[: count - 3 * fourth]
    chosen["random"] = [others[place] for place in np.sort(drawn_at)]
    return [(kind, image_id) for kind in KINDS for image_id in chosen[kind]]


def describe_shared_rule(chosen: Sequence[tuple[str, int]], num_captioners: int, *, seed: int) -> str:
    """How the cases were chosen, in a sentence."""
    counts = {kind: sum(other == kind for other, _ in chosen) for kind in KINDS}
    by = "mean CIDEr-D of the captioners" if num_captioners > 1 else "CIDEr-D"
    between = "captioners' CIDEr-D differs" if num_captioners > 1 else "alternatives' CIDEr-D differs"
    return (
        f"Test images, the same for every captioner: the {counts['best']} with the highest {by}, the "
        f"{counts['worst']} with the lowest, of the others the {counts['disagreeing']} where the {between} most, and "
        f"{counts['random']} drawn at random from what is left (seed {seed})."
    )
