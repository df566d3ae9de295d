"""What does each image's caption score, kept so that corpus values of any images can be had from it again?"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seesay.captioning.metrics.bleu import NUM_STATISTICS, bleu_of, bleu_statistics
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.ngrams import MAX_ORDER
from seesay.captioning.metrics.rouge import image_rouge_l
from seesay.core.errors import InputError
from seesay.core.files import read_text, write_text
from seesay.resampling import Difference, difference_of, resampled_sums

CORPUS_METRICS = ("bleu4", "rouge_l", "cider_d")
"""What an interval and a comparison are made for."""

_STATISTICS = (
    *(f"found{order}" for order in range(1, MAX_ORDER + 1)),
    *(f"ngrams{order}" for order in range(1, MAX_ORDER + 1)),
    "length",
    "reference_length",
)
_COLUMNS = ("image_id", *CORPUS_METRICS, *_STATISTICS)


@dataclass(frozen=True)
class ImageScores:
    """One caption for each of N images, scored.

    `bleu` (N, 10) are `bleu_statistics`, `rouge_l` and `cider_d` (N,) the images' values, all float64.
    """

    bleu: np.ndarray
    rouge_l: np.ndarray
    cider_d: np.ndarray

    def __len__(self) -> int:
        return len(self.rouge_l)

    @property
    def bleu4(self) -> np.ndarray:
        """BLEU-4 of each image alone, float64 (N,). Their mean is not the corpus BLEU-4."""
        scores: np.ndarray = bleu_of(self.bleu)[:, -1]
        return scores

    def columns(self) -> np.ndarray:
        """All of it as float64 (N, 12), of which sums over images make the corpus values: see `corpus_values`."""
        return np.column_stack([self.bleu, self.rouge_l, self.cider_d])


def score_images(
    predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]], cider: CiderReferences
) -> ImageScores:
    """Scores of each image's caption; `cider` was made of the very `references`."""
    return ImageScores(
        bleu_statistics(predictions, references), image_rouge_l(predictions, references), cider.score(predictions)
    )


def corpus_values(sums: np.ndarray, num_images: int) -> dict[str, np.ndarray]:
    """Corpus values by metric, each (M,), from M sums of `ImageScores.columns` over `num_images` images, (M, 12)."""
    bleu4: np.ndarray = bleu_of(sums[:, :NUM_STATISTICS])[:, -1]
    return {"bleu4": bleu4, "rouge_l": sums[:, -2] / num_images, "cider_d": sums[:, -1] / num_images}


def corpus_scores(images: ImageScores) -> dict[str, float]:
    """`bleu1` to `bleu4` of the corpus, and the means `rouge_l` and `cider_d`."""
    bleu = bleu_of(images.bleu.sum(axis=0)[None])[0]
    return {
        **{f"bleu{order}": float(value) for order, value in enumerate(bleu, start=1)},
        "rouge_l": float(images.rouge_l.mean()),
        "cider_d": float(images.cider_d.mean()),
    }


def write_image_scores(path: Path, image_ids: Sequence[int], scores: ImageScores) -> None:
    """Writes a CSV: image id, the image's own BLEU-4, ROUGE-L and CIDEr-D, and the counts BLEU is made of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for image_id, bleu4, rouge_l, cider_d, counts in zip(
        image_ids, scores.bleu4, scores.rouge_l, scores.cider_d, scores.bleu, strict=True
    ):
        writer.writerow(
            [image_id, *(repr(float(value)) for value in (bleu4, rouge_l, cider_d)), *map(int, counts.tolist())]
        )
    write_text(path, text.getvalue())


def read_image_scores(path: Path) -> tuple[list[int], ImageScores]:
    """The image ids and scores that `write_image_scores` wrote; raises `InputError` where it is not such a table."""
    rows = list(csv.reader(io.StringIO(read_text(path))))
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise InputError(f"{path}: expected the columns {', '.join(_COLUMNS)}; run score_captions again")
    try:
        image_ids = [int(row[0]) for row in rows[1:]]
        values = np.array([[float(value) for value in row[1:]] for row in rows[1:]]).reshape(-1, len(_COLUMNS) - 1)
    except (ValueError, IndexError):
        raise InputError(f"{path}: expected numbers in every row; run score_captions again") from None
    return image_ids, ImageScores(values[:, len(CORPUS_METRICS) :], values[:, 1], values[:, 2])


def bootstrap_intervals(scores: ImageScores, *, resamples: int, seed: int, level: float = 0.95) -> dict[str, float]:
    """`bleu4_low`, `bleu4_high` and so on: the percentile intervals of corpus `bleu4`, `rouge_l` and `cider_d`.

    The same seed draws the same resamples for any captions of as many images.
    """
    sums = resampled_sums(scores.columns(), resamples=resamples, seed=seed)
    found: dict[str, float] = {}
    for name, values in corpus_values(sums, len(scores)).items():
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        found |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return found


def paired_bootstrap_of_corpora(
    first: ImageScores, second: ImageScores, *, resamples: int, seed: int, level: float = 0.95
) -> dict[str, Difference]:
    """The same for corpus `bleu4`, `rouge_l` and `cider_d`, by metric, of captions for the same images."""
    assert len(first) == len(second), (len(first), len(second))
    both = np.column_stack([first.columns(), second.columns()])
    sums = np.split(resampled_sums(both, resamples=resamples, seed=seed), 2, axis=1)
    totals = np.split(both.sum(axis=0)[None], 2, axis=1)
    resampled = [corpus_values(half, len(first)) for half in sums]
    values = [corpus_values(half, len(first)) for half in totals]
    return {
        name: difference_of(
            float(values[0][name][0]), float(values[1][name][0]), resampled[0][name] - resampled[1][name], level
        )
        for name in CORPUS_METRICS
    }
