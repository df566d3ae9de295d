"""What the data report says of a packed image dataset: counts, sizes, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from seesay.data.duplicates import RULE, LeftOut, repeated
from seesay.data.image_decoding import DecodedImage
from seesay.data.packed_images import PackedImages, split_digest


def build_image_report(
    subset: str,
    packed: PackedImages,
    decoded: Sequence[DecodedImage],
    left_out: Sequence[LeftOut],
    undecodable: Sequence[DecodedImage],
) -> dict[str, Any]:
    """The report as JSON values. `decoded`: all images of the subset's classes, also those left out.

    `duplicates` counts before the rule; `leakage` after it, between the packed splits.
    """
    examples = [image.example for image in decoded]
    contents = {image.example.member: image.example.content for image in decoded}
    held = {name: {contents[member] for member in split.ids} for name, split in packed.splits.items()}
    counts = {name: Counter(split.labels.tolist()) for name, split in packed.splits.items()}
    return {
        "name": packed.name,
        "subset": subset,
        "source": packed.source.to_json(),
        "digest": packed.digest,
        "split_digests": {name: split_digest(split) for name, split in packed.splits.items()},
        "num_images": {name: len(split) for name, split in packed.splits.items()},
        "num_classes": packed.num_classes,
        "classes": [
            asdict(image_class) | {name: counts[name][index] for name in packed.splits}
            for index, image_class in enumerate(packed.classes)
        ],
        "image_size": packed.image_size,
        "sizes": dict(sorted(Counter(image.size for image in decoded).items())),
        "modes": dict(sorted(Counter(image.mode for image in decoded).items())),
        "channel_mean": list(packed.channel_mean),
        "channel_std": list(packed.channel_std),
        "rule": RULE,
        "left_out": [asdict(item) | {"same_as": list(item.same_as)} for item in left_out],
        "num_left_out": dict(sorted(Counter(item.reason for item in left_out).items())),
        "undecodable": [{"member": image.example.member, "reason": image.error} for image in undecodable],
        "duplicates": {
            "train": repeated(examples, "train"),
            "test": repeated(examples, "test"),
            "same_bytes": _num_same_bytes(decoded),
        },
        "leakage": {
            "train_val": len(held["train"] & held["val"]),
            "train_test": len(held["train"] & held["test"]),
            "val_test": len(held["val"] & held["test"]),
        },
    }


def _num_same_bytes(decoded: Sequence[DecodedImage]) -> int:
    """How many files have the very bytes of another one."""
    counts = Counter(image.file_sha256 for image in decoded)
    return sum(count for count in counts.values() if count > 1)
