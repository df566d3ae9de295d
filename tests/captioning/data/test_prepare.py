"""Caption sources, clean and damaged, become records."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seesay.captioning.data.records import CaptionRecords, write_caption_records
from seesay.captioning.data.prepare import prepare_captions
from seesay.sources.provenance import SourceNote, write_source
from seesay.core.errors import InputError
from seesay.params.datasets import CaptionDataset, CaptionLimits


def jpeg(number: int, mode: str = "RGB") -> bytes:
    """A picture of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, "JPEG")
    return content.getvalue()


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def captions_of(number: int) -> list[str]:
    return [f"picture {number} in words {word}" for word in ("one", "two", "three", "four", "five")]


def annotations(captions: Mapping[int, Iterable[str]], image_ids: Iterable[int] | None = None) -> bytes:
    ids = captions if image_ids is None else image_ids
    content = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 1, "height": 1} for i in ids],
        "annotations": [
            {"id": 10 * i + n, "image_id": i, "caption": text}
            for i, texts in captions.items()
            for n, text in enumerate(texts)
        ],
    }
    return json.dumps(content).encode()


TRAIN, VAL = tuple(range(1, 21)), (101, 102, 103)


def write_coco(
    folder: Path,
    *,
    train: Mapping[int, Iterable[str]] | None = None,
    train_ids: Iterable[int] | None = None,
    pictures: Mapping[int, bytes] | None = None,
    loose: bool = False,
) -> Path:
    """A raw folder in COCO's layout: 20 training images, 3 val images; `pictures` replaces or (b"") removes some."""
    folder.mkdir(parents=True, exist_ok=True)
    train = {i: captions_of(i) for i in TRAIN} if train is None else train
    content = {i: jpeg(i) for i in (*TRAIN, *VAL)} | dict(pictures or {})
    write_zip(
        folder / "annotations_trainval2017.zip",
        {
            "annotations/captions_train2017.json": annotations(train, train_ids),
            "annotations/captions_val2017.json": annotations({i: captions_of(i) for i in VAL}),
        },
    )
    for name, ids in (("train2017", TRAIN), ("val2017", VAL)):
        members = {f"{name}/{i:012d}.jpg": content[i] for i in ids if content[i]}
        if loose:
            for member, picture in members.items():
                (folder / member).parent.mkdir(exist_ok=True)
                (folder / member).write_bytes(picture)
        else:
            write_zip(folder / f"{name}.zip", members)
    write_source(folder, SourceNote("toy", ()))
    return folder


def write_flickr8k(
    folder: Path, lines: Iterable[str], splits: Mapping[str, Iterable[str]], images: Iterable[str]
) -> Path:
    folder.mkdir(parents=True)
    texts = {"Flickr8k.token.txt": "\n".join(lines) + "\n"}
    for split in ("train", "dev", "test"):
        texts[f"Flickr_8k.{split}Images.txt"] = "\n".join(splits[split]) + "\n"
    junk = {"__MACOSX/._Flickr8k.token.txt": b"\x00\x05"}
    write_zip(folder / "Flickr8k_text.zip", junk | {name: text.encode() for name, text in texts.items()})
    members = {f"Flicker8k_Dataset/{name}": jpeg(number) for number, name in enumerate(images)}
    write_zip(
        folder / "Flickr8k_Dataset.zip", {f"__MACOSX/Flicker8k_Dataset/._{name}": b"x" for name in images} | members
    )
    write_source(folder, SourceNote("toy", ()))
    return folder


def settings(
    val_fraction: float | None = 0.2, undecodable: int = 0, missing: int = 0, empty: int = 0, seed: int = 0
) -> CaptionDataset:
    limits = CaptionLimits(max_undecodable=undecodable, max_missing_images=missing, max_empty_captions=empty)
    return CaptionDataset(val_fraction=val_fraction, split_seed=seed, limits=limits)


def ids(captions: CaptionRecords, split: str) -> list[int]:
    return [record.image_id for record in captions.of(split)]


def test_official_val_is_test_and_val_is_cut_from_train_by_image(tmp_path: Path) -> None:
    captions, report = prepare_captions(settings(), write_coco(tmp_path / "raw"), name="toy")
    assert ids(captions, "test") == list(VAL)
    assert len(ids(captions, "val")) == 4  # 0.2 of 20
    assert sorted(ids(captions, "train") + ids(captions, "val")) == list(TRAIN)
    for record in captions.records:  # all captions of an image are with it, in one split
        assert record.captions == tuple(captions_of(record.image_id))
    assert report["num_images"] == {"train": 16, "val": 4, "test": 3}
    assert report["num_captions"] == {"train": 80, "val": 20, "test": 15}
    assert report["captions_per_image"]["train"] == {"5": 16}
    assert report["caption_lengths"]["test"]["histogram"] == {"5": 15}
    assert report["image_sizes"]["most_common"] == {"16x12": 23}


def test_the_cut_depends_on_the_seed_only(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw")
    first, _ = prepare_captions(settings(), folder, name="toy")
    again, _ = prepare_captions(settings(), folder, name="toy")
    other, _ = prepare_captions(settings(seed=1), folder, name="toy")
    assert first == again
    assert ids(first, "val") != ids(other, "val")
    assert ids(first, "test") == ids(other, "test")


def test_loose_images_and_archives_give_the_same_splits(tmp_path: Path) -> None:
    zipped, _ = prepare_captions(settings(), write_coco(tmp_path / "zipped"), name="toy")
    loose, _ = prepare_captions(settings(), write_coco(tmp_path / "loose", loose=True), name="toy")
    assert [(r.image_id, r.split, r.sha256) for r in zipped.records] == [
        (r.image_id, r.split, r.sha256) for r in loose.records
    ]
    assert {record.archive for record in loose.records} == {""}


def test_images_outside_a_fetched_subset_are_not_missed(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw", loose=True, pictures={19: b"", 20: b""})
    subset = {"train2017": [f"{i:012d}.jpg" for i in TRAIN[:18]], "val2017": [f"{i:012d}.jpg" for i in VAL]}
    (folder / "subset.json").write_text(json.dumps({"images": subset, "is_substitute": False}))
    captions, report = prepare_captions(settings(), folder, name="toy")
    assert len(captions) == 21
    assert report["dropped"]["missing_images"]["count"] == 0


def test_an_image_that_is_annotated_but_not_there_fails_beyond_the_limit(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw", pictures={7: b""})
    with pytest.raises(InputError, match=r"train2017/000000000007\.jpg") as caught:
        prepare_captions(settings(), folder, name="toy")
    assert "caption_datasets.toy.limits.max_missing_images allows 0" in str(caught.value)
    captions, report = prepare_captions(settings(missing=1), folder, name="toy")
    assert 7 not in [record.image_id for record in captions.records]
    assert report["dropped"]["missing_images"] == {"count": 1, "names": ["train2017/000000000007.jpg"]}


def test_an_annotation_of_an_unlisted_image_is_a_missing_image(tmp_path: Path) -> None:
    train = {i: captions_of(i) for i in TRAIN} | {999: ["a ghost"]}
    folder = write_coco(tmp_path / "raw", train=train, train_ids=TRAIN)
    with pytest.raises(InputError, match="image_id 999"):
        prepare_captions(settings(), folder, name="toy")


@pytest.mark.parametrize("empty", ["", "   ", " . ", "\r\n"])
def test_empty_captions_are_dropped_counted_and_limited(tmp_path: Path, empty: str) -> None:
    train = {i: captions_of(i) for i in TRAIN} | {3: ["a dog", empty, "a cat"]}
    folder = write_coco(tmp_path / "raw", train=train)
    with pytest.raises(InputError, match=r"000000000003\.jpg: caption 1"):
        prepare_captions(settings(), folder, name="toy")
    captions, report = prepare_captions(settings(empty=1), folder, name="toy")
    assert next(r for r in captions.records if r.image_id == 3).captions == ("a dog", "a cat")
    assert report["dropped"]["empty_captions"]["count"] == 1


def test_an_image_without_any_caption_is_left_out_and_listed(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw", train={i: captions_of(i) for i in TRAIN if i != 5}, train_ids=TRAIN)
    captions, report = prepare_captions(settings(), folder, name="toy")
    assert 5 not in [record.image_id for record in captions.records]
    assert report["dropped"]["images_without_captions"]["names"] == ["train2017/000000000005.jpg"]


def test_a_truncated_jpeg_fails_beyond_the_limit_and_is_named(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw", pictures={4: jpeg(4)[:-150], 6: b"no image"})
    with pytest.raises(InputError, match="2 undecodable images") as caught:
        prepare_captions(settings(undecodable=1), folder, name="toy")
    assert "train2017/000000000004.jpg (image file is truncated" in str(caught.value)
    assert "0x" not in str(caught.value)
    captions, report = prepare_captions(settings(undecodable=2), folder, name="toy")
    assert len(captions) == 21
    assert report["dropped"]["undecodable_images"]["count"] == 2


def test_a_zip_cut_short_is_named(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw")
    path = folder / "train2017.zip"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"train2017\.zip: not a readable zip archive"):
        prepare_captions(settings(), folder, name="toy")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw")
    path = folder / "val2017.zip"
    content = bytearray(path.read_bytes())
    content[content.index(jpeg(102)) + 200] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"val2017\.zip: val2017/000000000102\.jpg: damaged"):
        prepare_captions(settings(), folder, name="toy")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path, SourceNote("toy", ()))
    write_zip(tmp_path / "holiday.zip", {"beach.jpg": jpeg(0)})
    with pytest.raises(InputError, match="neither Flickr8k"):
        prepare_captions(settings(), tmp_path, name="toy")


def test_training_images_that_are_in_test_are_left_out_and_listed(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw", pictures={9: jpeg(102), 10: jpeg(11), 11: jpeg(11)})
    captions, report = prepare_captions(settings(), folder, name="toy")
    assert ids(captions, "test") == list(VAL)
    assert 9 not in ids(captions, "train") + ids(captions, "val")
    left_out = report["duplicates"]["left_out"]
    assert {"file_name": "train2017/000000000009.jpg", "same_as": ("test: val2017/000000000102.jpg",)}.items() <= next(
        item for item in left_out if item["file_name"].endswith("09.jpg")
    ).items()
    content = {split: {r.sha256 for r in captions.of(split)} for split in ("train", "val", "test")}
    assert not content["train"] & content["test"]
    assert not content["train"] & content["val"]
    assert not content["val"] & content["test"]


def test_strange_line_breaks_in_captions_shift_nothing(tmp_path: Path) -> None:
    odd = {1: ["a\u2028dog", "b\rcat"], 2: ["c\x0chorse\x85", "d ||| cow"]}
    folder = write_coco(tmp_path / "coco", train={i: captions_of(i) for i in TRAIN} | odd)
    captions, _ = prepare_captions(settings(), folder, name="toy")
    by_id = {record.image_id: record.captions for record in captions.records}
    assert by_id[1] == ("a\u2028dog", "b\rcat")
    assert by_id[2] == ("c\x0chorse", "d ||| cow")
    assert by_id[3] == tuple(captions_of(3))


def rewrite_train_annotations(folder: Path, content: dict[str, Any]) -> None:
    held_out = annotations({i: captions_of(i) for i in VAL})
    members = {"captions_train2017.json": json.dumps(content).encode(), "captions_val2017.json": held_out}
    write_zip(folder / "annotations_trainval2017.zip", {f"annotations/{name}": text for name, text in members.items()})


def test_one_annotation_id_for_all_captions_loses_none(tmp_path: Path) -> None:
    """A copy of an annotation counts once."""
    folder = write_coco(tmp_path / "raw")
    content = json.loads(annotations({i: ["a dog", "a cat"] for i in TRAIN}))
    for annotation in content["annotations"]:
        annotation["id"] = 1
    content["annotations"] += content["annotations"][:3]
    rewrite_train_annotations(folder, content)
    captions, _ = prepare_captions(settings(), folder, name="toy")
    assert {record.captions for record in captions.of("train")} == {("a dog", "a cat")}


def test_a_caption_that_two_people_wrote_alike_is_there_twice(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw", train={i: ["a dog", "a dog"] for i in TRAIN})
    captions, _ = prepare_captions(settings(), folder, name="toy")
    assert {record.captions for record in captions.of("train")} == {("a dog", "a dog")}


def test_an_image_id_with_two_file_names_is_refused(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw")
    content = json.loads(annotations({i: captions_of(i) for i in TRAIN}))
    content["images"].append({"id": 1, "file_name": "other.jpg"})
    rewrite_train_annotations(folder, content)
    with pytest.raises(InputError, match=r"captions_train2017\.json: image id 1 is both 000000000001\.jpg and other\.jpg"):
        prepare_captions(settings(), folder, name="toy")


def test_flickr8k_follows_its_lists_and_splits_lines_at_newlines_only(tmp_path: Path) -> None:
    lines = [
        "a.jpg#0\tone\u2028dog .",
        "a.jpg#1\tone\rcat .",
        "b.jpg#0\ttwo .",
        "c.jpg#0\tthree .",
        "d.jpg#0\tin no split .",
        "gone.jpg.1#0\tno image .",
    ]
    lists = {"train": ["a.jpg "], "dev": ["b.jpg"], "test": ["c.jpg"]}
    folder = write_flickr8k(tmp_path / "raw", lines, lists, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    captions, report = prepare_captions(settings(None), folder, name="toy")
    assert {r.file_name: (r.split, r.captions) for r in captions.records} == {
        "Flicker8k_Dataset/a.jpg": ("train", ("one\u2028dog .", "one\rcat .")),
        "Flicker8k_Dataset/b.jpg": ("val", ("two .",)),
        "Flicker8k_Dataset/c.jpg": ("test", ("three .",)),
    }
    assert report["images_in_no_split"] == {"count": 2, "names": ["d.jpg", "gone.jpg.1"]}


def test_flickr8k_images_of_a_list_without_a_file_are_missing_images(tmp_path: Path) -> None:
    lines = [f"{name}.jpg#0\ta thing ." for name in "abcx"]
    lists = {"train": ["a.jpg", "x.jpg"], "dev": ["b.jpg"], "test": ["c.jpg"]}
    folder = write_flickr8k(tmp_path / "raw", lines, lists, ["a.jpg", "b.jpg", "c.jpg"])
    with pytest.raises(InputError, match=r"1 images with captions but without a file[\s\S]*x\.jpg"):
        prepare_captions(settings(None), folder, name="toy")
    captions, _ = prepare_captions(settings(None, missing=1), folder, name="toy")
    assert len(captions) == 3


def test_two_captions_run_together_in_one_flickr8k_line_count_as_malformed(tmp_path: Path) -> None:
    lines = ["a.jpg#0\ta dog", "a.jpg#1\ta cat a.jpg#2\ta cow", "b.jpg#0\tb", "c.jpg#0\tc"]
    lists = {"train": ["a.jpg"], "dev": ["b.jpg"], "test": ["c.jpg"]}
    folder = write_flickr8k(tmp_path / "raw", lines, lists, ["a.jpg", "b.jpg", "c.jpg"])
    with pytest.raises(InputError, match="line 2"):
        prepare_captions(settings(None), folder, name="toy")
    captions, report = prepare_captions(settings(None, empty=1), folder, name="toy")
    assert captions.of("train")[0].captions == ("a dog",)
    assert report["dropped"]["malformed_captions"]["count"] == 1


def test_a_val_fraction_must_fit_the_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"caption_datasets\.toy\.val_fraction: got None"):
        prepare_captions(settings(None), write_coco(tmp_path / "raw"), name="toy")


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "raw")
    for name in ("one", "two"):
        write_caption_records(tmp_path / name, prepare_captions(settings(), folder, name="toy")[0])
    for file in ("records.json", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_preparing_vocabulary_and_scoring_need_no_torch() -> None:
    modules = "data.prepare", "data.vocabulary", "features.store", "score", "predictions"
    code = "import sys\n" + "".join(f"import seesay.captioning.{module}\n" for module in modules)
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
