"""Captions of the val and test images by a captioner, by a captioner with shuffled features, and by neighbours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from seesay.captioning.data.batches import references_of
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.tokenizer import tokenize
from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.decoding.decode import Decoded, decode
from seesay.captioning.features.combined import CaptionerInputs
from seesay.captioning.features.store import Features
from seesay.captioning.metrics.baselines import nearest_neighbour_captions
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.networks.base import Captioner
from seesay.captioning.predictions import Alternative, Prediction
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.params.captioning import Decoding, Greedy
from seesay.seeding import numpy_generator

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CaptionedSplits:
    """The predictions of each set, and the number of images captioned per second."""

    predictions: dict[str, list[Prediction]]
    images_per_second: float


def caption_splits(
    captioner: Captioner,
    captions: CaptionRecords,
    vocabulary: Vocabulary,
    features: Sequence[Features],
    decoding: Decoding,
    *,
    seed: int,
    compute: Compute,
) -> CaptionedSplits:
    """Caption each image, in the order of the records, for the sets "val", "test" and "test_shuffled".

    `features` are what the captioner reads: one, or, for an ensemble, those that its experiment names, in that order.
    Those of "val" and "test" have `alternatives`: all captions that decoding returns, best first. In "test_shuffled"
    every test image is captioned from the features of another one; a captioner's score there comes from its knowledge
    of captions, not from the image. Raises `InputError` for a test split of one image.
    """
    assert captioner.vocabulary_size == len(vocabulary), "the captioner was built for another vocabulary"
    captioner.to(compute.device)
    val, test = (_rows(captions, split) for split in ("val", "test"))
    if len(test) < 2:
        raise InputError(
            f"{captions.name}: got {len(test)} test image: expected at least two, whose features can be shuffled"
        )
    sets = {"val": (val, val), "test": (test, test), "test_shuffled": (test, test[derangement(len(test), seed=seed)])}
    references = None
    if not isinstance(decoding, Greedy) and decoding.rerank is not None:
        references = CiderReferences(references_of([captions], "train"))
    predictions: dict[str, list[Prediction]] = {}
    started = time.perf_counter()
    for name, (captioned_rows, feature_rows) in sets.items():
        decoded = decode_rows(captioner, features, feature_rows, decoding, seed=seed, compute=compute)
        if references is not None:
            decoded = rerank_by_consensus(decoded, vocabulary, references)
        predictions[name] = [
            _prediction(
                captions.records[row].image_id, candidates, vocabulary, with_alternatives=name in ("val", "test")
            )
            for row, candidates in zip(captioned_rows.tolist(), decoded, strict=True)
        ]
    num_captioned = sum(map(len, predictions.values()))
    return CaptionedSplits(predictions, num_captioned / (time.perf_counter() - started))


def caption_by_neighbours(captions: CaptionRecords, features: Features) -> tuple[list[Prediction], int]:
    """Caption each test image by the captions of the training images nearest in pooled features.

    Returns the captions and the number of neighbours; see `nearest_neighbour_captions`.
    """
    train, val, test = (_rows(captions, split) for split in ("train", "val", "test"))
    tokens = [[tokenize(caption) for caption in record.captions] for record in captions.records]
    borrowed = nearest_neighbour_captions(features.pooled, train, val, test, tokens)
    predictions: list[Prediction] = [
        {"image_id": captions.records[row].image_id, "caption": " ".join(caption)}
        for row, caption in zip(test.tolist(), borrowed.test, strict=True)
    ]
    return predictions, borrowed.num_neighbours


def derangement(num_items: int, *, seed: int) -> Rows:
    """Return a random permutation of two or more items without fixed points: one cycle through all of them."""
    assert num_items > 1
    cycle = numpy_generator(seed, "derangement").permutation(num_items)
    shuffled = np.empty(num_items, dtype=np.int64)
    shuffled[cycle] = np.roll(cycle, 1)
    return shuffled


def decode_rows(
    captioner: Captioner, features: Sequence[Features], rows: Rows, decoding: Decoding, *, seed: int, compute: Compute
) -> list[list[Decoded]]:
    """Return the captions of each of these rows of `features`, in their order, best first."""
    inputs, of_batches = CaptionerInputs(captioner.inputs(), features), []
    for first in compute.ranks.turns(range(0, len(rows), decoding.batch_size)):
        batch = torch.from_numpy(inputs.rows(rows[first : first + decoding.batch_size])).to(compute.device)
        with compute.autocast():
            of_batches.append(decode(captioner, batch, decoding, seed=seed, first_image=first))
    return [captions for batch_captions in compute.ranks.gather(of_batches) for captions in batch_captions]


def rerank_by_consensus(
    decoded: Sequence[Sequence[Decoded]], vocabulary: Vocabulary, references: CiderReferences
) -> list[list[Decoded]]:
    """Return the captions of each image by their mean CIDEr-D against the image's other captions, which is the new
    score.

    The caption most like the others comes first (Devlin et al., 2015, "Exploring Nearest Neighbor Approaches for Image
    Captioning"). Of equal captions the one that decoding ranked higher is first. Document frequencies are those of
    `references`.
    """
    texts = [[vocabulary.decode(one.token_ids) for one in of_image] for of_image in decoded]
    ranked = []
    for of_image, scores in zip(decoded, references.agreement(texts), strict=True):
        scored = [replace(one, score=float(score)) for one, score in zip(of_image, scores, strict=True)]
        ranked.append(sorted(scored, key=lambda one: -one.score))
    return ranked


def _rows(captions: CaptionRecords, split: str) -> Rows:
    return np.array(captions.rows(split), dtype=np.int64)


def _prediction(
    image_id: int, candidates: Sequence[Decoded], vocabulary: Vocabulary, *, with_alternatives: bool
) -> Prediction:
    alternatives: list[Alternative] = [
        {
            "caption": " ".join(vocabulary.decode(candidate.token_ids)),
            "log_probability": round(candidate.log_probability, 4),
        }
        for candidate in candidates
    ]
    prediction: Prediction = {"image_id": image_id, "caption": alternatives[0]["caption"]}
    if with_alternatives:
        prediction["alternatives"] = alternatives
    return prediction
