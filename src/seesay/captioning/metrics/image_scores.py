"""Scores of each image's caption, from which corpus scores of any set of images can be computed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.ngrams import MAX_ORDER, NUM_STATISTICS, bleu_scores, bleu_statistics, image_rouge_l
from seesay.core.files import write_text
from seesay.resampling import resampled_sums

CORPUS_METRICS = ("bleu4", "rouge_l", "cider_d")
"""The corpus metrics that have an interval."""

_STATISTICS = (
    *(f"found{order}" for order in range(1, MAX_ORDER + 1)),
    *(f"ngrams{order}" for order in range(1, MAX_ORDER + 1)),
    "length",
    "reference_length",
)
_COLUMNS = ("image_id", *CORPUS_METRICS, *_STATISTICS)


@dataclass(frozen=True)
class ImageScores:
    """The scores of one caption for each of N images.

    `bleu` (N, 10) are `bleu_statistics`; `rouge_l` and `cider_d` (N,) are the images' values; all float64.
    """

    bleu: np.ndarray
    rouge_l: np.ndarray
    cider_d: np.ndarray

    def __len__(self) -> int:
        return len(self.rouge_l)

    @property
    def bleu4(self) -> np.ndarray:
        """BLEU-4 of each image alone, float64 (N,). Their mean is not the corpus BLEU-4."""
        scores: np.ndarray = bleu_scores(self.bleu)[:, -1]
        return scores

    def columns(self) -> np.ndarray:
        """Return all scores as float64 (N, 12); `_corpus_values` computes corpus values from their sums over images."""
        return np.column_stack([self.bleu, self.rouge_l, self.cider_d])


def score_images(
    predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]], cider: CiderReferences
) -> ImageScores:
    """Score each image's caption; `cider` must be built from the same `references`."""
    return ImageScores(
        bleu_statistics(predictions, references), image_rouge_l(predictions, references), cider.score(predictions)
    )


def corpus_scores(images: ImageScores) -> dict[str, float]:
    """Return `bleu1` to `bleu4` of the corpus, and the means `rouge_l` and `cider_d`."""
    bleu = bleu_scores(images.bleu.sum(axis=0)[None])[0]
    return {
        **{f"bleu{order}": float(value) for order, value in enumerate(bleu, start=1)},
        "rouge_l": float(images.rouge_l.mean()),
        "cider_d": float(images.cider_d.mean()),
    }


def write_image_scores(path: Path, image_ids: Sequence[int], scores: ImageScores) -> None:
    """Write a CSV: image id, the image's own BLEU-4, ROUGE-L and CIDEr-D, and the statistics of BLEU."""
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


def bootstrap_intervals(scores: ImageScores, *, resamples: int, seed: int, level: float = 0.95) -> dict[str, float]:
    """Return the percentile intervals of corpus `bleu4`, `rouge_l` and `cider_d`: `bleu4_low`, `bleu4_high` and so on.

    The same seed draws the same resamples for any captions of the same number of images.
    """
    sums = resampled_sums(scores.columns(), resamples=resamples, seed=seed)
    intervals: dict[str, float] = {}
    for name, values in _corpus_values(sums, len(scores)).items():
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        intervals |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return intervals


def _corpus_values(sums: np.ndarray, num_images: int) -> dict[str, np.ndarray]:
    """Return corpus values by metric, each (M,), from M sums (M, 12) of `ImageScores.columns` over `num_images`."""
    bleu4: np.ndarray = bleu_scores(sums[:, :NUM_STATISTICS])[:, -1]
    return {"bleu4": bleu4, "rouge_l": sums[:, -2] / num_images, "cider_d": sums[:, -1] / num_images}
