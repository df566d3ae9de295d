"""Which captions are taught together: batches of captions of like length, for teacher forcing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seesay.data.caption_records import CaptionRecords
from seesay.data.features import Features
from seesay.data.tokenizer import tokenize
from seesay.data.vocabulary import BOS, EOS, PAD, Vocabulary
from seesay.errors import InputError
from seesay.seeding import numpy_generator


@dataclass(frozen=True)
class EncodedCaptions:
    """A split's captions as token ids: one example per caption, however many its image has.

    token_ids: int32 (captions, longest), <bos>, words, <eos>, then <pad>. lengths: int64 (captions,), without <pad>.
    rows: int64 (captions,), the row of each caption's image in the features.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def num_batches(self, batch_size: int) -> int:
        return -(-len(self) // batch_size)


@dataclass(frozen=True)
class CaptionBatch:
    """B captions: features (B, ...) float32; inputs and targets (B, T) int64.

    targets[:, t] is what follows inputs[:, t]; where it is <pad> there is nothing to learn.
    """

    features: Tensor
    inputs: Tensor
    targets: Tensor


def encode_captions(
    captions: CaptionRecords, split: str, vocabulary: Vocabulary, *, max_caption_length: int
) -> EncodedCaptions:
    """All captions of a split, in the order of the records.

    A caption of more than `max_caption_length` words is cut there and gets no <eos>: it does not end there. Raises
    `InputError` for a split without captions.
    """
    sequences: list[list[int]] = []
    rows: list[int] = []
    for row, record in zip(captions.rows(split), captions.of(split), strict=True):
        for caption in record.captions:
            words = vocabulary.encode(tokenize(caption))
            end = [EOS] if len(words) <= max_caption_length else []
            sequences.append([BOS, *words[:max_caption_length], *end])
            rows.append(row)
    if not sequences:
        raise InputError(f"captions of {captions.name}: the {split} split has none")
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    token_ids = np.full((len(sequences), lengths.max()), PAD, dtype=np.int32)
    for index, sequence in enumerate(sequences):
        token_ids[index, : len(sequence)] = sequence
    return EncodedCaptions(token_ids, lengths, np.array(rows, dtype=np.int64))


def shuffled_batches(
    encoded: EncodedCaptions, features: Features, *, batch_size: int, seed: int, epoch: int, device: torch.device
) -> Iterator[CaptionBatch]:
    """An epoch's batches, by (seed, epoch) alone: captions of like length together, batches in random order."""
    generator = numpy_generator(seed, "caption_batches", epoch)
    order = generator.permutation(len(encoded))
    order = order[np.argsort(encoded.lengths[order], kind="stable")]  # random among captions of equal length
    for batch in generator.permutation(encoded.num_batches(batch_size)):
        yield _gather(encoded, features, order[batch * batch_size : (batch + 1) * batch_size], device=device)


def ordered_batches(
    encoded: EncodedCaptions, features: Features, *, batch_size: int, device: torch.device
) -> Iterator[CaptionBatch]:
    """Each caption once, the shortest first."""
    order = np.argsort(encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield _gather(encoded, features, order[start : start + batch_size], device=device)


def _gather(encoded: EncodedCaptions, features: Features, chosen: np.ndarray, *, device: torch.device) -> CaptionBatch:
    tokens = torch.from_numpy(encoded.token_ids[chosen, : encoded.lengths[chosen].max()].astype(np.int64)).to(device)
    seen = torch.from_numpy(features.pooled[encoded.rows[chosen]].astype(np.float32)).to(device)
    return CaptionBatch(seen, inputs=tokens[:, :-1], targets=tokens[:, 1:])
