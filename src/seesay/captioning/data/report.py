"""What the data report says about a caption dataset: counts, lengths, sizes, what was left out and why."""

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
"""A report lists this many names of a kind; the count says how many there are."""


@dataclass(frozen=True)
class LeftOut:
    """An image left out because its picture is in a later split as well."""

    file_name: str
    split: str
    same_as: tuple[str, ...]


@dataclass(frozen=True)
class Preparation:
    """What `prepare_captions` met besides the records."""

    missing_images: Sequence[str]
    undecodable_images: Sequence[str]
    images_without_captions: Sequence[str]
    images_in_no_split: Sequence[str]
    empty_captions: Sequence[str]
    malformed_captions: Sequence[str]
    left_out: Sequence[LeftOut]
    copies: Mapping[str, Sequence[Sequence[str]]]
    modes: Sequence[str]


def report_captions(captions: CaptionRecords, met: Preparation, settings: CaptionDataset) -> dict[str, Any]:
    """The nested report, ready for JSON."""
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
        "image_modes": _histogram(met.modes),
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
            "missing_images": _named(met.missing_images),
            "undecodable_images": _named(met.undecodable_images),
            "images_without_captions": _named(met.images_without_captions),
            "empty_captions": _named(met.empty_captions),
            "malformed_captions": _named(met.malformed_captions),
        },
        "images_in_no_split": _named(met.images_in_no_split),
        "limits": settings.limits.model_dump(),
        "duplicates": {
            "rule": RULE,
            "num_left_out": dict(
                sorted(Counter(item.split for item in met.left_out).items(), key=lambda item: SPLITS.index(item[0]))
            ),
            "left_out": [asdict(item) for item in met.left_out],
            "within_splits": {split: [list(group) for group in met.copies[split]] for split in SPLITS},
        },
    }


def _histogram(values: Iterable[int] | Iterable[str]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


def _distribution(lengths: Sequence[int]) -> dict[str, Any]:
    """Tokens a caption: mean, median, extremes, histogram."""
    return {
        "mean": round(fmean(lengths), 4),
        **_range(lengths),
        "histogram": {str(length): count for length, count in sorted(Counter(lengths).items())},
    }


def _range(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": median(values), "max": max(values)}


def _named(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "names": list(names[:MAX_NAMES])}
