"""How good predicted captions are, beside captions that look at no image and captions people wrote."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seesay.data.caption_records import CaptionRecord, CaptionRecords
from seesay.data.tokenizer import tokenize
from seesay.evaluation.baselines import best_constant_caption, random_captions
from seesay.evaluation.bleu import corpus_bleu
from seesay.evaluation.caption_predictions import SPLIT_OF_SET, Predictions
from seesay.evaluation.cider import CiderReferences
from seesay.evaluation.rouge import image_rouge_l

Captions = Sequence[list[str]]
References = Sequence[Sequence[list[str]]]


@dataclass(frozen=True)
class Scores:
    """`sets`: for each set of captions its metrics; `per_image`: CIDEr-D of each test image's prediction, by image id.

    Sets: the predictions' (`test`, `val`, `test_shuffled`); `floor_constant`, `floor_random` on test; and `human`, the
    first reference of each test image scored against its others, where every test image has at least two.
    """

    sets: Mapping[str, Mapping[str, float]]
    per_image: Mapping[int, float]
    constant_caption: str

    def metrics(self) -> dict[str, float]:
        """Flat: `test/cider_d`, `floor_random/bleu4`; fractions, CIDEr-D 1.0 being "100" in papers."""
        return {f"{name}/{metric}": value for name, values in self.sets.items() for metric, value in values.items()}

    def table(self) -> str:
        """CSV: a row per set, a column per metric."""
        text = io.StringIO()
        columns = list(next(iter(self.sets.values())))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["set", *columns])
        for name, values in self.sets.items():
            writer.writerow([name, *(f"{values[column]:.6g}" for column in columns)])
        return text.getvalue()


def score_all(predictions: Predictions, captions: CaptionRecords, *, seed: int) -> Scores:
    """Scores each set of `predictions` and the floors; every caption goes through one tokenizer.

    `seed` draws the random training captions. Each set must have one caption for each image of its split
    (`read_caption_predictions` sees to it).
    """
    training = [tokenize(caption) for record in captions.of("train") for caption in record.captions]
    known = {tuple(tokens) for tokens in training}
    records = {split: captions.of(split) for split in ("val", "test")}
    references = {split: [_references(record) for record in records[split]] for split in records}
    cider = {split: CiderReferences(references[split]) for split in references}

    def score(tokens: Captions, split: str) -> dict[str, float]:
        return score_captions(tokens, references[split], cider[split].score(tokens), known)

    sets: dict[str, dict[str, float]] = {}
    per_image: dict[int, float] = {}
    for name in ("test", "val", "test_shuffled"):
        split = SPLIT_OF_SET[name]
        tokens = _tokens(predictions, name, records[split])
        sets[name] = score(tokens, split)
        if name == "test":
            values = cider["test"].score(tokens)
            per_image = {record.image_id: float(value) for record, value in zip(records["test"], values, strict=True)}
    num_images = len(records["test"])
    constant = best_constant_caption(training, cider["val"])
    sets["floor_constant"] = score([constant] * num_images, "test")
    sets["floor_random"] = score(random_captions(training, num_images=num_images, seed=seed), "test")
    if all(len(of_image) >= 2 for of_image in references["test"]):
        sets["human"] = score_humans(references["test"], known)
    return Scores(sets, per_image, " ".join(constant))


def score_captions(
    tokens: Captions, references: References, cider_d: np.ndarray, training: set[tuple[str, ...]]
) -> dict[str, float]:
    """All metrics of one set; `cider_d` (N,) are the images' values, `training` the captions that are not novel."""
    bleu = corpus_bleu(tokens, references)
    return {
        **{f"bleu{order}": value for order, value in enumerate(bleu, start=1)},
        "rouge_l": float(image_rouge_l(tokens, references).mean()),
        "cider_d": float(cider_d.mean()),
        "mean_length": sum(map(len, tokens)) / len(tokens),
        "vocabulary_size": float(len({token for caption in tokens for token in caption})),
        "share_novel": sum(tuple(caption) not in training for caption in tokens) / len(tokens),
    }


def score_humans(references: References, training: set[tuple[str, ...]]) -> dict[str, float]:
    """Each image's first reference scored against its others: what agreement people reach (one reference less)."""
    first = [of_image[0] for of_image in references]
    others = [of_image[1:] for of_image in references]
    return score_captions(first, others, CiderReferences(others).score(first), training)


def _references(record: CaptionRecord) -> list[list[str]]:
    return [tokenize(caption) for caption in record.captions]


def _tokens(predictions: Predictions, name: str, records: Sequence[CaptionRecord]) -> list[list[str]]:
    caption_of = {prediction["image_id"]: prediction["caption"] for prediction in predictions[name]}
    assert len(caption_of) == len(records), (name, len(caption_of), len(records))
    return [tokenize(caption_of[record.image_id]) for record in records]
