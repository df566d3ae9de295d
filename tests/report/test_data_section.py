"""The page's section on data names the files of an image dataset that were left out, and those that look alike."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.report.data_section import DataReport, read_data_reports


def shown(root: Path, **report: Any) -> DataReport:
    counts = {"num_images": {"train": 3, "val": 1, "test": 1}, "classes": []}
    write_json(Paths(root).data_report("prepare_images", "mine"), {**counts, **report})
    params: Any = SimpleNamespace(image_datasets={"mine": None}, caption_datasets={}, features={})
    return read_data_reports(params, Paths(root))[0]


def test_files_that_are_not_used_are_named_with_the_reason(tmp_path: Path) -> None:
    undecodable = [{"member": f"cat/{n}.jpg", "reason": "truncated"} for n in range(45)]
    unlabelled = ["test/1.png", "test/2.png"]
    page = shown(tmp_path, undecodable=undecodable, unlabelled=unlabelled)
    assert dict(page.facts)["unlabelled, not used"] == "2"
    tables = {table.title: table for table in page.tables}
    assert tables["Undecodable"].rows[0] == ("cat/0.jpg", "truncated")
    assert tables["Undecodable"].rows[40:] == (("and 5 more", ""),)
    assert tables["Unlabelled"].rows == (("test/1.png",), ("test/2.png",))


def test_near_duplicates_are_counted_and_listed(tmp_path: Path) -> None:
    pair = {"files": ["cat/1.png", "cat/2.png"], "splits": ["train", "test"], "distance": 2}
    near = {"max_distance": 6, "num_pairs": {"train and test": 1, "within val": 0}, "pairs": [pair]}
    page = shown(tmp_path, near_duplicates=near)
    assert dict(page.facts)["pairs of near-duplicates, kept"] == "train and test 1"
    (table,) = page.tables
    assert table.title == "Near-duplicates: perceptual hashes at most 6 of 64 bits apart"
    assert table.rows == (("cat/1.png", "cat/2.png", "train and test", "2"),)


def test_of_many_image_sizes_the_most_common_are_shown(tmp_path: Path) -> None:
    sizes = {f"{width}x100": width % 7 + 1 for width in range(100, 120)}
    page = shown(tmp_path, sizes=sizes)
    expected = "104x100 7, 111x100 7, 118x100 7, 103x100 6, 110x100 6, 117x100 6, and 14 others"
    assert dict(page.facts)["image sizes"] == expected
