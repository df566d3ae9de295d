"""What a captioner says about the images of val and test, and about test images it is shown in each other's place."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from seesay.compute import Compute
from seesay.data.caption_records import CaptionRecords
from seesay.data.features import Features
from seesay.data.vocabulary import Vocabulary
from seesay.errors import InputError
from seesay.evaluation.caption_predictions import Prediction
from seesay.models.beam_search import beam_search
from seesay.models.captioner import Captioner
from seesay.models.decoded import Decoded
from seesay.models.greedy import greedy_search
from seesay.params.captioning import Decoding
from seesay.seeding import numpy_generator

Rows = NDArray[np.int64]


def caption_splits(
    captioner: Captioner,
    captions: CaptionRecords,
    vocabulary: Vocabulary,
    features: Features,
    decoding: Decoding,
    *,
    seed: int,
    compute: Compute,
) -> dict[str, list[Prediction]]:
    """`{"image_id", "caption"}` of each image, in the order of the records, for "val", "test" and "test_shuffled".

    In "test_shuffled" every test image is captioned from the features of another one: what a captioner still scores
    there it owes to knowing captions, not to seeing. Raises `InputError` for a test split of one image.
    """
    assert captioner.vocabulary_size == len(vocabulary), "the captioner was built for another vocabulary"
    captioner.to(compute.device)
    val, test = (np.array(captions.rows(split), dtype=np.int64) for split in ("val", "test"))
    if len(test) < 2:
        raise InputError(f"captions of {captions.name}: expected two test images or more to shuffle, got {len(test)}")
    seen = {"val": (val, val), "test": (test, test), "test_shuffled": (test, test[derangement(len(test), seed=seed)])}
    predictions: dict[str, list[Prediction]] = {}
    for name, (shown_as, rows) in seen.items():
        decoded = decode_rows(captioner, features, rows, decoding, compute=compute)
        predictions[name] = [
            {"image_id": captions.records[row].image_id, "caption": " ".join(vocabulary.decode(caption.token_ids))}
            for row, caption in zip(shown_as.tolist(), decoded, strict=True)
        ]
    return predictions


def derangement(num_items: int, *, seed: int) -> Rows:
    """A random permutation of two or more items that leaves none in its place: one cycle through all of them."""
    assert num_items > 1
    cycle = numpy_generator(seed, "derangement").permutation(num_items)
    shuffled = np.empty(num_items, dtype=np.int64)
    shuffled[cycle] = np.roll(cycle, 1)
    return shuffled


def decode_rows(
    captioner: Captioner, features: Features, rows: Rows, decoding: Decoding, *, compute: Compute
) -> list[Decoded]:
    """What `captioner` says of those rows of `features`, in their order."""
    decoded: list[Decoded] = []
    for start in range(0, len(rows), decoding.batch_size):
        chosen = features.pooled[rows[start : start + decoding.batch_size]].astype(np.float32)
        batch = torch.from_numpy(chosen).to(compute.device)
        if decoding.method == "greedy":
            decoded += greedy_search(captioner, batch, max_length=decoding.max_length)
        else:
            decoded += beam_search(
                captioner,
                batch,
                beam_size=decoding.beam_size,
                length_penalty=decoding.length_penalty,
                max_length=decoding.max_length,
            )
    return decoded
