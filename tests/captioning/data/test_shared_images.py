"""Training images of one dataset that another one is validated or tested on are found by their bytes."""

from seesay.captioning.data.records import CaptionRecord, CaptionRecords, collect_records
from seesay.captioning.data.records import shared_images
from seesay.sources.provenance import SourceNote


def dataset(name: str, content: dict[str, list[str]]) -> CaptionRecords:
    listed = [(split, digest) for split, digests in content.items() for digest in digests]
    records = [
        CaptionRecord(n, f"{n}.jpg", "", split, ("x",), 1, 1, digest) for n, (split, digest) in enumerate(listed)
    ]
    return collect_records(name, records, SourceNote(name, ()))


FIRST = dataset("first", {"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]})


def test_only_training_images_that_are_held_out_in_the_first_are_shared() -> None:
    second = dataset("second", {"train": ["a", "d", "x", "c"], "val": ["e"], "test": ["d"]})
    pairs = [(held.split, held.sha256, record.file_name) for held, record in shared_images(FIRST, second)]
    assert pairs == [("test", "d", "1.jpg"), ("val", "c", "3.jpg")]


def test_the_same_dataset_shares_nothing_with_itself() -> None:
    assert shared_images(FIRST, FIRST) == []


def test_records_without_a_digest_are_not_alike() -> None:
    assert shared_images(dataset("a", {"test": [""]}), dataset("b", {"train": ["", ""]})) == []
