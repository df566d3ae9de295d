"""The data report of a caption dataset: counts, lengths, sizes, and the images left out with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from seesay.captioning.data.records import SPLITS, CaptionRecords
from seesay.captioning.data.tokenizer import tokenize
from seesay.params.datasets import CaptionDataset

RULE = (
    "Two images are the same when their decoded pixels (RGB, at full size) have the same sha256. "
    "The test split is the official one and is never changed for this reason. "
    "A training image that is the same as a val or test image is left out, and a val image that is the same as a test "
    "image. Copies within one split are kept and listed."
)

MAX_NAMES = 20
"""Most names of a kind that a report lists; the count beside them is complete."""


@dataclass(frozen=True)
class LeftOut:
    """An image left out because the same picture is in a later split as well."""

    file_name: str
    split: str
    same_as: tuple[str, ...]


@dataclass(frozen=True)
class Preparation:
    """Findings of `prepare_captions` besides the records."""

    missing_images: Sequence[str]
    undecodable_images: Sequence[str]
    images_without_captions: Sequence[str]
    images_in_no_split: Sequence[str]
    empty_captions: Sequence[str]
    malformed_captions: Sequence[str]
    left_out: Sequence[LeftOut]
    copies: Mapping[str, Sequence[Sequence[str]]]
    modes: Sequence[str]


def report_captions(captions: CaptionRecords, preparation: Preparation, settings: CaptionDataset) -> dict[str, Any]:
    """Return the nested report, ready for JSON."""
    num_left_out = Counter(item.split for item in preparation.left_out)
    return {
        "dataset": captions.name,
        "digest": captions.digest,
        "source": captions.source.to_json(),
        "substitutes": list(captions.source.substitutes),
        "num_images": {split: len(captions.of(split)) for split in SPLITS},
        "num_captions": {split: sum(len(record.captions) for record in captions.of(split)) for split in SPLITS},
        "captions_per_image": {
            split: _histogram(len(record.captions) for record in captions.of(split)) for split in SPLITS
        },
        "caption_lengths": {
            split: _distribution([len(tokenize(text)) for record in captions.of(split) for text in record.captions])
            for split in SPLITS
        },
        "image_modes": _histogram(preparation.modes),
        "image_sizes": {
            "width": _range([record.width for record in captions.records]),
            "height": _range([record.height for record in captions.records]),
            "most_common": dict(
                sorted(
                    Counter(f"{record.width}x{record.height}" for record in captions.records).items(),
                    key=lambda item: (-item[1], item[0]),
                )[:5]
            ),
        },
        "dropped": {
            "missing_images": _named(preparation.missing_images),
            "undecodable_images": _named(preparation.undecodable_images),
            "images_without_captions": _named(preparation.images_without_captions),
            "empty_captions": _named(preparation.empty_captions),
            "malformed_captions": _named(preparation.malformed_captions),
        },
        "images_in_no_split": _named(preparation.images_in_no_split),
        "limits": settings.limits.model_dump(),
        "duplicates": {
            "rule": RULE,
            "num_left_out": {split: count for split in SPLITS if (count := num_left_out[split])},
            "left_out": [asdict(item) for item in preparation.left_out],
            "within_splits": {split: [list(group) for group in preparation.copies[split]] for split in SPLITS},
        },
    }


def _histogram(values: Iterable[int] | Iterable[str]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


def _distribution(lengths: Sequence[int]) -> dict[str, Any]:
    """Return statistics of the tokens per caption: mean, median, extremes and histogram."""
    return {
        "mean": round(fmean(lengths), 4),
        **_range(lengths),
        "histogram": {str(length): count for length, count in sorted(Counter(lengths).items())},
    }


def _range(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": median(values), "max": max(values)}


def _named(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "names": list(names[:MAX_NAMES])}
