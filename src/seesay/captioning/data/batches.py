"""Which captions are taught together: batches of captions of like length, for teacher forcing."""

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
from seesay.seeding import numpy_generator


class Seen(Protocol):
    """What is seen of images: an encoder's features, float32, or pixels, uint8, which an encoder is still to see."""

    def gather(self, datasets: np.ndarray, rows: np.ndarray) -> Tensor:
        """(N, ...) on the CPU: image `rows[i]` of dataset `datasets[i]`."""
        ...

    def vary(self, datasets: np.ndarray, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Rows (N,) to gather in place of `rows`: the same images, each as itself or in another view, by chance."""
        ...


@dataclass(frozen=True)
class Examples:
    """Which images, by (dataset, row), both int64 (N,): position in the list of datasets, row in its features."""

    datasets: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def num_batches(self, batch_size: int) -> int:
        return -(-len(self) // batch_size)


@dataclass(frozen=True)
class EncodedCaptions(Examples):
    """A split's captions as token ids: one example per caption, however many its image has.

    token_ids: int32 (captions, longest), <bos>, words, <eos>, then <pad>. lengths: int64 (captions,), without <pad>.
    """

    token_ids: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class CaptionBatch:
    """B captions: features (B, ...) as they were seen; inputs and targets (B, T) int64.

    targets[:, t] is what follows inputs[:, t]; where it is <pad> there is nothing to learn.
    """

    features: Tensor
    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class ImageBatch:
    """N images: features (N, ...) as they were seen, and where each is in the list of training images, int64 (N,)."""

    features: Tensor
    images: np.ndarray


def described(captions: CaptionRecords, split: str) -> list[tuple[int, CaptionRecord]]:
    """(row, record) of a split's images that have captions; raises `InputError` where there are none."""
    found = [pair for pair in zip(captions.rows(split), captions.of(split), strict=True) if pair[1].captions]
    if not found:
        raise InputError(f"captions of {captions.name}: the {split} split has none")
    return found


def references_of(datasets: Sequence[CaptionRecords], split: str) -> list[list[list[str]]]:
    """Tokens of the captions of each image that `images_of` lists."""
    return [
        [tokenize(caption) for caption in record.captions]
        for captions in datasets
        for _, record in described(captions, split)
    ]


def images_of(datasets: Sequence[CaptionRecords], split: str) -> Examples:
    """The images of a split of each dataset, in the order of the records; raises `InputError` as `described` does."""
    rows = [[row for row, _ in described(captions, split)] for captions in datasets]
    numbers = np.repeat(np.arange(len(rows)), [len(of_dataset) for of_dataset in rows])
    return Examples(numbers, np.array([row for of_dataset in rows for row in of_dataset], dtype=np.int64))


def encode_captions(
    datasets: Sequence[CaptionRecords], split: str, vocabulary: Vocabulary, *, max_caption_length: int
) -> EncodedCaptions:
    """All captions of a split of each dataset, in the order of the records.

    A caption of more than `max_caption_length` words is cut there and gets no <eos>: it does not end there. Raises
    `InputError` for a split without captions.
    """
    sequences: list[list[int]] = []
    numbers: list[int] = []
    rows: list[int] = []
    for number, captions in enumerate(datasets):
        for row, record in described(captions, split):
            for caption in record.captions:
                words = vocabulary.encode(tokenize(caption))
                end = [EOS] if len(words) <= max_caption_length else []
                sequences.append([BOS, *words[:max_caption_length], *end])
                numbers.append(number)
                rows.append(row)
    return EncodedCaptions(
        datasets=np.array(numbers, dtype=np.int64),
        rows=np.array(rows, dtype=np.int64),
        token_ids=pad_sequences(sequences, dtype=np.int32),
        lengths=np.array([len(sequence) for sequence in sequences], dtype=np.int64),
    )


def pad_sequences(sequences: Sequence[Sequence[int]], *, dtype: type[np.integer]) -> np.ndarray:
    """One row a sequence, (N, longest), filled up with <pad>."""
    padded = np.full((len(sequences), max(map(len, sequences))), PAD, dtype=dtype)
    for index, sequence in enumerate(sequences):
        padded[index, : len(sequence)] = sequence
    return padded


def shuffled_batches(
    encoded: EncodedCaptions, features: Seen, *, batch_size: int, seed: int, epoch: int, device: torch.device
) -> Iterator[CaptionBatch]:
    """An epoch's batches, by (seed, epoch) alone: captions of like length together, batches in random order, of an
    image that has views any of them."""
    generator = numpy_generator(seed, "caption_batches", epoch)
    views = numpy_generator(seed, "views", epoch)
    order = generator.permutation(len(encoded))
    order = order[np.argsort(encoded.lengths[order], kind="stable")]  # random among captions of equal length
    for batch in generator.permutation(encoded.num_batches(batch_size)):
        chosen = order[batch * batch_size : (batch + 1) * batch_size]
        rows = features.vary(encoded.datasets[chosen], encoded.rows[chosen], generator=views)
        yield _gather(encoded, features, chosen, rows, device=device)


def ordered_batches(
    encoded: EncodedCaptions, features: Seen, *, batch_size: int, device: torch.device
) -> Iterator[CaptionBatch]:
    """Each caption once, the shortest first."""
    order = np.argsort(encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield _gather(encoded, features, chosen, encoded.rows[chosen], device=device)


def image_batches(
    images: Examples,
    features: Seen,
    order: np.ndarray,
    *,
    batch_size: int,
    device: torch.device,
    views: np.random.Generator | None = None,
) -> Iterator[ImageBatch]:
    """The images at the positions in `order`, in that order; with `views`, which chooses, each in any of its views."""
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        datasets, rows = images.datasets[chosen], images.rows[chosen]
        if views is not None:
            rows = features.vary(datasets, rows, generator=views)
        yield ImageBatch(features.gather(datasets, rows).to(device), chosen)


def _gather(
    encoded: EncodedCaptions, features: Seen, chosen: np.ndarray, rows: np.ndarray, *, device: torch.device
) -> CaptionBatch:
    """The captions at the positions `chosen`, of the images in `rows`."""
    tokens = torch.from_numpy(encoded.token_ids[chosen, : encoded.lengths[chosen].max()].astype(np.int64)).to(device)
    seen = features.gather(encoded.datasets[chosen], rows).to(device)
    return CaptionBatch(seen, inputs=tokens[:, :-1], targets=tokens[:, 1:])
