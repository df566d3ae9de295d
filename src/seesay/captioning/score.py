"""Scores of predicted captions, beside simple baselines (floors) and human captions."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seesay.captioning.data.records import CaptionRecord, CaptionRecords
from seesay.captioning.data.tokenizer import tokenize, tokenize_all, tokenize_references
from seesay.captioning.metrics.baselines import best_constant_caption, random_captions
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.diversity import TrainingCaptions, diversity, lengths, novelty, training_captions
from seesay.captioning.metrics.embedding import CaptionEmbedding, EmbeddedReferences
from seesay.captioning.metrics.image_scores import ImageScores, bootstrap_intervals, corpus_scores, score_images
from seesay.captioning.metrics.java import LineProcess, meteor_java
from seesay.captioning.predictions import SPLIT_OF_SET, Predictions
from seesay.params.results import Evaluation

Captions = Sequence[list[str]]
References = Sequence[Sequence[list[str]]]

PREDICTED = {"test": "test", "val": "val", "test_shuffled": "test_shuffled", "floor_nearest": "nearest_neighbour"}
"""Name in the predictions file of each scored set that is there."""


@dataclass(frozen=True)
class Scores:
    """Metrics by set of captions (`sets`), and the scores of each test image's prediction, by `image_ids` (`images`).

    The sets are those of the predictions (`test`, `val`, `test_shuffled`, and `floor_nearest` if present), and
    `floor_constant` and `floor_random` on test. Where every test image has at least two references there are two more:
    `human`, the first reference of each image scored against its others, and `test_like_human`, the predictions scored
    against the same others. That is the fairer comparison, since fewer references give lower scores. The metric
    `num_references` is the mean number of references per image.
    """

    sets: Mapping[str, Mapping[str, float]]
    image_ids: Sequence[int]
    constant_caption: str
    images: ImageScores = field(compare=False)

    @property
    def per_image(self) -> dict[int, float]:
        """Return the CIDEr-D of each test image's prediction, by image id."""
        return dict(zip(self.image_ids, self.images.cider_d.tolist(), strict=True))

    def metrics(self) -> dict[str, float]:
        """Return flat metrics, `test/cider_d`, `floor_random/bleu4`, as fractions: CIDEr-D 1.0 is "100" in papers."""
        return {f"{name}/{metric}": value for name, values in self.sets.items() for metric, value in values.items()}

    def table(self) -> str:
        """Return CSV with a row per set and a column per metric."""
        text = io.StringIO()
        columns = list(dict.fromkeys(column for values in self.sets.values() for column in values))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["set", *columns])
        for name, values in self.sets.items():
            writer.writerow([name, *(f"{values[column]:.6g}" if column in values else "" for column in columns)])
        return text.getvalue()


def score_all(
    predictions: Predictions,
    captions: CaptionRecords,
    *,
    evaluation: Evaluation,
    seed: int,
    meteor: LineProcess | None = None,
) -> Scores:
    """Score each set of `predictions`, the floors and human captions; one tokenizer serves them all.

    `seed` decides the random training captions and the embedding's pairs, `evaluation` the bootstrap of intervals.
    `meteor` is METEOR's process (`open_meteor`); without it there is no `meteor_java`. Each set must have one caption
    for each image of its split, as `read_caption_predictions` checks.
    """
    training = [tokenize(caption) for record in captions.of("train") for caption in record.captions]
    embedding = CaptionEmbedding(training, seed=seed)
    records = {split: captions.of(split) for split in ("val", "test")}
    scorers = {
        split: SplitScorer(
            tokenize_references([record.captions for record in records[split]]),
            training_captions(training),
            embedding,
            evaluation,
            seed,
        )
        for split in records
    }
    test = scorers["test"]
    tokens = {
        name: (SPLIT_OF_SET[stored], _tokens(predictions, stored, records[SPLIT_OF_SET[stored]]))
        for name, stored in PREDICTED.items()
        if stored in predictions
    }
    images = score_images(tokens["test"][1], test.references, test.cider)
    sets = {name: scorers[split].score(of_set) for name, (split, of_set) in tokens.items()}
    num_images = len(records["test"])
    constant = best_constant_caption(training, scorers["val"].cider)
    sets["floor_constant"] = test.score([constant] * num_images)
    sets["floor_random"] = test.score(random_captions(training, num_images=num_images, seed=seed))
    if all(len(of_image) >= 2 for of_image in test.references):
        others = test.without_first()
        sets["human"] = others.score([of_image[0] for of_image in test.references])
        sets["test_like_human"] = others.score(tokens["test"][1])
        if meteor is not None:
            first = [of_image[0] for of_image in test.references]
            sets["human"]["meteor_java"], _ = meteor_java(first, others.references, process=meteor)
    if meteor is not None:
        for name in ("test", "val"):
            split, of_set = tokens[name]
            sets[name]["meteor_java"], _ = meteor_java(of_set, scorers[split].references, process=meteor)
    return Scores(sets, [record.image_id for record in records["test"]], " ".join(constant), images)


@dataclass(frozen=True)
class SplitScorer:
    """Scorer of any number of sets of captions against the references of one split, prepared once.

    `seed` decides the pairs of `embedding_cosine_random`.
    """

    references: References
    training: TrainingCaptions
    embedding: CaptionEmbedding
    evaluation: Evaluation
    seed: int
    cider: CiderReferences = field(init=False)
    embedded: EmbeddedReferences = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cider", CiderReferences(self.references))
        object.__setattr__(self, "embedded", EmbeddedReferences(self.embedding, self.references))

    def without_first(self) -> SplitScorer:
        """Return a scorer without each image's first reference."""
        others = [of_image[1:] for of_image in self.references]
        return SplitScorer(others, self.training, self.embedding, self.evaluation, self.seed)

    def score(self, tokens: Captions) -> dict[str, float]:
        """Return all metrics of a set with one caption per image."""
        images = score_images(tokens, self.references, self.cider)
        resamples, seed = self.evaluation.bootstrap_resamples, self.evaluation.bootstrap_seed
        return {
            **corpus_scores(images),
            **bootstrap_intervals(images, resamples=resamples, seed=seed),
            **self.embedded.cosines(tokens, seed=self.seed),
            **lengths(tokens, self.references),
            **diversity(tokens),
            **novelty(tokens, self.training),
            "num_references": sum(map(len, self.references)) / len(self.references),
        }


def _tokens(predictions: Predictions, name: str, records: Sequence[CaptionRecord]) -> list[list[str]]:
    caption_of = {prediction["image_id"]: prediction["caption"] for prediction in predictions[name]}
    assert len(caption_of) == len(records), (name, len(caption_of), len(records))
    return tokenize_all([caption_of[record.image_id] for record in records])
