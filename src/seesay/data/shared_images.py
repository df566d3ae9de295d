"""Which images that are learned from show what another dataset is validated or tested on."""

from __future__ import annotations

from collections import defaultdict

from seesay.data.caption_records import CaptionRecord, CaptionRecords


def shared_images(first: CaptionRecords, second: CaptionRecords) -> list[tuple[CaptionRecord, CaptionRecord]]:
    """(val or test image of `first`, training image of `second`) of each pair whose files have the same bytes.

    In the order of `second`. A picture that was encoded anew or resized has other bytes and is not found.
    """
    held_out: dict[str, list[CaptionRecord]] = defaultdict(list)
    for record in (*first.of("val"), *first.of("test")):
        held_out[record.sha256].append(record)
    held_out.pop("", None)  # records made without a file
    return [(held, record) for record in second.of("train") for held in held_out.get(record.sha256, [])]
