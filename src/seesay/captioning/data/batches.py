"""Batches of captions and of images for training and evaluating captioners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seesay.captioning.data.records import CaptionRecord, CaptionRecords
from seesay.captioning.data.tokenizer import tokenize
from seesay.captioning.data.vocabulary import BOS, EOS, PAD, Vocabulary
from seesay.core.errors import InputError
from seesay.ranks import ALONE, Ranks
from seesay.seeding import numpy_generator


class ImageInputs(Protocol):
    """The inputs of a captioner by image: features, float32, or pixels, uint8, for a captioner with an encoder."""

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return (N, ...) on the CPU: the input of image `rows[i]` of dataset `datasets[i]`."""
        ...

    def sample_views(self, datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Return rows (N,) to gather in place of `rows`: for each image its own row or a random one of its views."""
        ...


@dataclass(frozen=True)
class Examples:
    """N images as (dataset, row), int64 (N,) each: position in the list of datasets, and row of its features."""

    datasets: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def num_batches(self, batch_size: int) -> int:
        return -(-len(self) // batch_size)


@dataclass(frozen=True)
class EncodedCaptions(Examples):
    """A split's captions as token ids, one example per caption.

    `token_ids`, int32 (captions, longest): <bos>, words, <eos>, then <pad>. `lengths`, int64 (captions,): not counting
    <pad>.
    """

    token_ids: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class CaptionBatch:
    """B captions for teacher forcing: features (B, ...), inputs and targets (B, T) int64.

    `targets[:, t]` is the token after `inputs[:, t]`. Targets that are <pad> do not count in the loss.
    """

    features: Tensor
    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class ImageBatch:
    """N images: features (N, ...) and their positions in the list of training images, int64 (N,)."""

    features: Tensor
    images: np.ndarray


def references_of(datasets: Sequence[CaptionRecords], split: str) -> list[list[list[str]]]:
    """Return the tokens of all captions of each image, in the order of `images_of`."""
    return [
        [tokenize(caption) for caption in record.captions]
        for captions in datasets
        for _, record in _images_with_captions(captions, split)
    ]


def images_of(datasets: Sequence[CaptionRecords], split: str) -> Examples:
    """Return the images with captions in the split, dataset by dataset, in the order of the records.

    Raises `InputError` for a split without captions.
    """
    rows = [[row for row, _ in _images_with_captions(captions, split)] for captions in datasets]
    dataset_numbers = np.repeat(np.arange(len(rows)), [len(dataset_rows) for dataset_rows in rows])
    return Examples(dataset_numbers, np.array([row for dataset_rows in rows for row in dataset_rows], dtype=np.int64))


def encode_captions(
    datasets: Sequence[CaptionRecords], split: str, vocabulary: Vocabulary, *, max_caption_length: int
) -> EncodedCaptions:
    """Return all captions of the split, dataset by dataset, in the order of the records.

    A caption of more than `max_caption_length` words is cut there and gets no <eos>, since it does not end there.
    Raises `InputError` for a split without captions.
    """
    sequences: list[list[int]] = []
    numbers: list[int] = []
    rows: list[int] = []
    for number, captions in enumerate(datasets):
        for row, record in _images_with_captions(captions, split):
            for caption in record.captions:
                words = vocabulary.encode(tokenize(caption))
                end = [EOS] if len(words) <= max_caption_length else []
                sequences.append([BOS, *words[:max_caption_length], *end])
                numbers.append(number)
                rows.append(row)
    return EncodedCaptions(
        datasets=np.array(numbers, dtype=np.int64),
        rows=np.array(rows, dtype=np.int64),
        token_ids=_pad(sequences, dtype=np.int32),
        lengths=np.array([len(sequence) for sequence in sequences], dtype=np.int64),
    )


def shuffled_batches(
    encoded: EncodedCaptions,
    features: ImageInputs,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Iterator[CaptionBatch]:
    """Yield an epoch's batches: captions of similar length together, batches in random order.

    Of each batch, a rank gets its part. Each image is itself or a random one of its views. The batches depend on `seed` and `epoch` alone.
    """
    generator = numpy_generator(seed, "caption_batches", epoch)
    views = numpy_generator(seed, "views", epoch)
    order = generator.permutation(len(encoded))
    order = order[np.argsort(encoded.lengths[order], kind="stable")]  # random among captions of equal length
    for batch in generator.permutation(encoded.num_batches(batch_size)):
        chosen = order[batch * batch_size : (batch + 1) * batch_size]
        rows = features.sample_views(encoded.datasets[chosen], encoded.rows[chosen], generator=views)
        part = ranks.part(len(chosen))
        yield _gather(encoded, features, chosen[part], rows[part], device=device)


def ordered_batches(
    encoded: EncodedCaptions,
    features: ImageInputs,
    *,
    batch_size: int,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Iterator[CaptionBatch]:
    """Yield each caption once, the shortest first; ranks take turns at batches."""
    order = np.argsort(encoded.lengths, kind="stable")
    for start in ranks.turns(range(0, len(order), batch_size)):
        chosen = order[start : start + batch_size]
        yield _gather(encoded, features, chosen, encoded.rows[chosen], device=device)


def image_batches(
    images: Examples,
    features: ImageInputs,
    order: np.ndarray,
    *,
    batch_size: int,
    device: torch.device,
    views: np.random.Generator | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[ImageBatch]:
    """Yield the images at the positions `order`, in that order; with a generator `views`, each in a random view.

    Of each batch, a rank gets its part.
    """
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        datasets, rows = images.datasets[chosen], images.rows[chosen]
        if views is not None:
            rows = features.sample_views(datasets, rows, generator=views)
        part = ranks.part(len(chosen))
        yield ImageBatch(features.gather(datasets[part], rows[part]).to(device), chosen[part])


def _gather(
    encoded: EncodedCaptions, features: ImageInputs, chosen: np.ndarray, rows: np.ndarray, *, device: torch.device
) -> CaptionBatch:
    """Return the captions at the positions `chosen`, with the inputs at `rows`."""
    tokens = torch.from_numpy(encoded.token_ids[chosen, : encoded.lengths[chosen].max()].astype(np.int64)).to(device)
    gathered = features.gather(encoded.datasets[chosen], rows).to(device)
    return CaptionBatch(gathered, inputs=tokens[:, :-1], targets=tokens[:, 1:])


def _images_with_captions(captions: CaptionRecords, split: str) -> list[tuple[int, CaptionRecord]]:
    """Return (row, record) of each image of the split that has captions; raise `InputError` if none has."""
    images = [pair for pair in zip(captions.rows(split), captions.of(split), strict=True) if pair[1].captions]
    if not images:
        raise InputError(f"{captions.name}: no image of the {split} split has a caption")
    return images


def _pad(sequences: Sequence[Sequence[int]], *, dtype: type[np.integer]) -> np.ndarray:
    """Return the sequences as rows of one array (N, longest), filled up with <pad>."""
    padded = np.full((len(sequences), max(map(len, sequences))), PAD, dtype=dtype)
    for index, sequence in enumerate(sequences):
        padded[index, : len(sequence)] = sequence
    return padded
