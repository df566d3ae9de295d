"""Splits come from a person's file in Karpathy's format, captions from the source."""

import json
from pathlib import Path
from typing import Any

import pytest

from seesay.captioning.data.records import CaptionRecords, write_caption_records
from seesay.sources.fetch import fetch_caption_source
from seesay.captioning.data.records import RawRecords, RawRecord
from seesay.captioning.data.karpathy import read_karpathy_split, apply_karpathy_split
from seesay.captioning.data.prepare import prepare_captions
from seesay.core.errors import InputError
from seesay.params.datasets import LocalFile
from tests.captioning.data.own_captions import checksum, dataset_settings, own_source

SPLITS = {1: "train", 2: "restval", 3: "val", 4: "test", 11: "train", 21: "test", 22: "train"}


def entry(number: int, split: str, *, coco_id: bool = True) -> dict[str, Any]:
    """As in dataset_coco.json; without `cocoid`, as in dataset_flickr8k.json."""
    sentences = [{"raw": "another caption than the source's", "tokens": ["another"]}]
    if not coco_id:
        return {"filename": f"{number}.png", "split": split, "sentences": sentences}
    name = f"COCO_val2014_{number:012d}.jpg"
    return {"filename": name, "filepath": "val2014", "cocoid": number, "split": split, "sentences": sentences}


def write_split(path: Path, entries: list[Any]) -> LocalFile:
    path.write_text(json.dumps({"dataset": "own", "images": entries}))
    return LocalFile(path=path.name, checksum=checksum(path))


def entries(splits: dict[int, str] = SPLITS, *, coco_id: bool = True) -> list[Any]:
    return [entry(number, split, coco_id=coco_id) for number, split in splits.items()]


def prepare(root: Path, file: LocalFile, *, missing: int = 0) -> tuple[CaptionRecords, dict[str, Any]]:
    if not (root / "home").exists():
        fetch_caption_source(own_source(root / "home"), root / "raw", mirror=None, scratch=root / ".work", root=root)
    return prepare_captions(
        dataset_settings(missing=missing, karpathy_split=file), root / "raw", name="own", root=root
    )


def numbers(captions: CaptionRecords) -> dict[str, list[int]]:
    return {split: [record.image_id for record in captions.of(split)] for split in ("train", "val", "test")}


@pytest.mark.parametrize("coco_id", [True, False])
def test_images_take_the_files_splits_and_keep_their_own_captions(tmp_path: Path, coco_id: bool) -> None:
    captions, _ = prepare(tmp_path, write_split(tmp_path / "k.json", entries(coco_id=coco_id)))
    assert numbers(captions) == {"train": [1, 2, 11, 22], "val": [3], "test": [4, 21]}  # restval is learned from
    assert {record.captions for record in captions.records} == {(f"picture {number}",) for number in SPLITS}


def test_the_files_digest_is_in_report_and_manifest(tmp_path: Path) -> None:
    file = write_split(tmp_path / "k.json", entries())
    captions, report = prepare(tmp_path, file)
    digest = file.checksum.removeprefix("sha256:")
    assert report["karpathy_split"] == {"file": "k.json", "sha256": digest, "num_images_named": 7}
    write_caption_records(tmp_path / "records", captions)
    manifest = json.loads((tmp_path / "records/manifest.json").read_text())
    assert manifest["source"]["files"][-1]["url"] == "local:k.json"
    assert manifest["source"]["files"][-1]["sha256"] == digest
    assert str(tmp_path) not in json.dumps([manifest, report])


@pytest.mark.parametrize("coco_id", [True, False])
def test_images_that_only_the_file_names_are_missing_images(tmp_path: Path, coco_id: bool) -> None:
    file = write_split(tmp_path / "k.json", entries(SPLITS | {77: "train"}, coco_id=coco_id))
    with pytest.raises(InputError, match=r"max_missing_images allows 0\n.*k\.json: .*77\."):
        prepare(tmp_path, file)
    captions, report = prepare(tmp_path, file, missing=1)
    assert len(captions) == 7
    assert report["dropped"]["missing_images"]["count"] == 1


def test_images_that_only_the_source_has_are_left_out_and_counted(tmp_path: Path) -> None:
    named = {number: split for number, split in SPLITS.items() if number not in (1, 22)}
    captions, report = prepare(tmp_path, write_split(tmp_path / "k.json", entries(named)))
    assert numbers(captions)["train"] == [2, 11]
    assert report["images_in_no_split"] == {"count": 2, "names": ["1.png", "some/where/22.png"]}


def test_images_that_the_source_has_set_aside_are_not_missed_again(tmp_path: Path) -> None:
    file = write_split(tmp_path / "k.json", entries({1: "train", 2: "train"}) + entries({3: "val"}, coco_id=False))
    image = RawRecord(1, "1.png", "", "test", ("a",))
    found = RawRecords((image,), False, ("2.png",), ("3.png",), set_aside=((2, "2.png"), (0, "3.png")))
    splits = apply_karpathy_split(found, read_karpathy_split(file, key="x", root=tmp_path))
    assert splits.missing_images == ("2.png",)
    assert [(image.image_id, image.split) for image in splits.images] == [(1, "train")]


def test_a_file_that_changed_is_refused_with_the_checksum_to_write(tmp_path: Path) -> None:
    file = write_split(tmp_path / "k.json", entries())
    prepare(tmp_path, file)
    changed = write_split(tmp_path / "k.json", entries(SPLITS | {1: "test"}))
    with pytest.raises(InputError) as error:
        prepare(tmp_path, file)
    assert "caption_datasets.own.karpathy_split.checksum: expected sha256:" in str(error.value)
    assert changed.checksum in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"filename": "1.png", "split": "dev"}, r"images\[0\]: split: got 'dev': expected one of train, restval"),
        ({"filename": "1.png"}, r"split: got None"),
        ({"split": "train"}, r"filename: got None"),
        ({"filename": "1.png", "split": "train", "cocoid": "1"}, r"cocoid: got '1'"),
        (7, r"filename: got None"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, wrong: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        prepare(tmp_path, write_split(tmp_path / "k.json", [wrong]))


@pytest.mark.parametrize("coco_id", [True, False])
def test_an_image_in_two_splits_is_refused(tmp_path: Path, coco_id: bool) -> None:
    twice = [entry(1, "train", coco_id=coco_id), entry(1, "test", coco_id=coco_id)]
    with pytest.raises(InputError, match=r"images\[1\]: (cocoid 1|1\.png) is in train as well as in test"):
        prepare(tmp_path, write_split(tmp_path / "k.json", twice))


@pytest.mark.parametrize(("text", "says"), [("{", "not valid JSON"), ("[]", "the list images"), ("", "not valid")])
def test_a_file_of_another_format_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(InputError, match=says):
        prepare(tmp_path, LocalFile(path="k.json", checksum=checksum(tmp_path / "k.json")))


def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"caption_datasets\.own\.karpathy_split\.path: .*none\.json: no such file"):
        prepare(tmp_path, LocalFile(path="none.json", checksum="sha256:" + "0" * 64))
