"""Preparing images: the cut, the rule on duplicates, and what is refused."""

import io
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seesay.core.errors import InputError
from seesay.images.packed import PackedImages
from seesay.images.prepare import prepare_images
from seesay.params.datasets import ImageDataset, ImageLimits

C = [f"s{number:08d}" for number in range(10)]


def settings(**changes: Any) -> ImageDataset:
    limits = ImageLimits(
        max_undecodable=changes.pop("max_undecodable", 0),
        max_left_out_per_class=changes.pop("max_left_out_per_class", 2),
    )
    values = {"source": "tiny", "subset": "scenes10", "image_size": 8, "split_seed": 0, "limits": limits}
    return ImageDataset(**values | {"num_train_per_class": 3, "num_val_per_class": 1} | changes)


@pytest.fixture
def prepare(raw_folder, make_zip, tmp_path) -> Callable[..., tuple[PackedImages, dict[str, Any]]]:
    def call(members: dict[str, bytes], **changes: Any) -> tuple[PackedImages, dict[str, Any]]:
        return prepare_images(
            settings(**changes), raw_folder(make_zip(members)), name="tiny10", scratch=tmp_path / "scratch"
        )

    return call


def train_member(wnid: str, number: int) -> str:
    return f"tiny/train/{wnid}/images/{wnid}_{number}.JPEG"


def test_train_and_val_are_cut_from_train_and_test_is_the_official_val(prepare, make_members):
    packed, report = prepare(make_members())
    assert report["num_images"] == {"train": 30, "val": 10, "test": 20}
    assert [image_class.wnid for image_class in packed.classes] == C
    assert packed.classes[3].label == "word 3"
    for split, each in (("train", 3), ("val", 1), ("test", 2)):
        assert Counter(packed.splits[split].labels.tolist()) == dict.fromkeys(range(10), each)
    assert packed.test.ids[:3] == ("val/images/val_0.JPEG", "val/images/val_10.JPEG", "val/images/val_1.JPEG")
    assert packed.test.labels[:3].tolist() == [0, 0, 1]
    ids = [*packed.train.ids, *packed.val.ids]
    assert len(set(ids)) == 40
    assert all(C[label] in name for label, name in zip(packed.train.labels, packed.train.ids, strict=True))
    assert report["leakage"] == {"train_val": 0, "train_test": 0, "val_test": 0}
    assert report["classes"][0] == {"wnid": C[0], "label": "word 0", "train": 3, "val": 1, "test": 2}
    json.dumps(report)


def test_pixels_are_those_of_the_named_file(prepare, make_members):
    members = make_members()
    packed, _ = prepare(members)
    for split in packed.splits.values():
        for pixels, name in zip(split.images, split.ids, strict=True):
            with Image.open(io.BytesIO(members[f"tiny/{name}"])) as image:
                assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_the_cut_depends_on_its_seed_only(prepare, make_members):
    first, _ = prepare(make_members())
    again, _ = prepare(make_members())
    other, _ = prepare(make_members(), split_seed=1)
    assert first.digest == again.digest
    assert first.val.ids != other.val.ids
    assert first.test.ids == other.test.ids


def test_a_training_image_that_is_also_in_test_is_left_out(prepare, make_members):
    members = make_members()
    members[train_member(C[2], 1)] = members["tiny/val/images/val_7.JPEG"]
    packed, report = prepare(members)
    assert report["left_out"] == [
        {
            "member": f"train/{C[2]}/images/{C[2]}_1.JPEG",
            "wnid": C[2],
            "reason": "in the test split",
            "same_as": ["val/images/val_7.JPEG"],
        }
    ]
    assert report["num_images"] == {"train": 29, "val": 10, "test": 20}
    assert (report["classes"][2]["train"], report["classes"][2]["val"]) == (2, 1)
    assert f"train/{C[2]}/images/{C[2]}_1.JPEG" not in packed.train.ids + packed.val.ids


def test_a_picture_in_two_training_classes_is_left_out_of_both(prepare, make_members):
    members = make_members()
    members[train_member(C[0], 3)] = members[train_member(C[9], 0)]
    _, report = prepare(members)
    assert [(item["wnid"], item["reason"]) for item in report["left_out"]] == [
        (C[0], "in another training class"),
        (C[9], "in another training class"),
    ]
    assert report["duplicates"]["train"] == [
        [f"train/{C[0]}/images/{C[0]}_3.JPEG", f"train/{C[9]}/images/{C[9]}_0.JPEG"]
    ]
    assert report["duplicates"]["same_bytes"] == 2


def test_the_first_of_copies_within_a_class_is_kept(prepare, make_members):
    """Images are copies also when only their pixels are the same."""
    members = make_members()
    with Image.open(io.BytesIO(members[train_member(C[4], 0)])) as image:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
    members[train_member(C[4], 2)] = buffer.getvalue()
    packed, report = prepare(members)
    assert [(item["member"], item["reason"]) for item in report["left_out"]] == [
        (f"train/{C[4]}/images/{C[4]}_2.JPEG", "a copy within its class")
    ]
    assert f"train/{C[4]}/images/{C[4]}_0.JPEG" in packed.train.ids + packed.val.ids
    assert report["duplicates"]["same_bytes"] == 0


def test_test_images_are_never_changed_only_reported(prepare, make_members):
    members = make_members()
    members["tiny/val/images/val_1.JPEG"] = members["tiny/val/images/val_0.JPEG"]
    _, report = prepare(members)
    assert report["num_images"]["test"] == 20
    assert report["duplicates"]["test"] == [["val/images/val_0.JPEG", "val/images/val_1.JPEG"]]


def test_spare_images_take_the_place_of_those_left_out(prepare, make_members):
    members = make_members(num_train=5)
    members[train_member(C[2], 1)] = members["tiny/val/images/val_7.JPEG"]
    assert prepare(members)[1]["num_images"] == {"train": 30, "val": 10, "test": 20}


def test_more_left_out_of_a_class_than_allowed_names_the_files(prepare, make_members):
    members = make_members()
    for number in (0, 1):
        members[train_member(C[2], number)] = members[f"tiny/val/images/val_{number}.JPEG"]
    with pytest.raises(InputError) as caught:
        prepare(members, max_left_out_per_class=1)
    assert f"2 images of {C[2]} to leave out; image_datasets.tiny10.limits.max_left_out_per_class allows 1" in str(
        caught.value
    )
    assert f"{C[2]}_0.JPEG (in the test split: val/images/val_0.JPEG)" in str(caught.value)


def test_a_truncated_jpeg_beyond_the_limit_is_named(prepare, make_members):
    """Within the limit it is left out and listed."""
    members = make_members()
    members[train_member(C[5], 2)] = members[train_member(C[5], 2)][:-60]
    members[train_member(C[6], 0)] = b"not an image"
    with pytest.raises(InputError) as caught:
        prepare(members, max_undecodable=1)
    message = str(caught.value)
    assert "tiny.zip: 2 undecodable images; image_datasets.tiny10.limits.max_undecodable allows 1" in message
    assert f"train/{C[5]}/images/{C[5]}_2.JPEG (" in message
    _, report = prepare(members, max_undecodable=2)
    assert [item["member"] for item in report["undecodable"]] == [
        f"train/{C[5]}/images/{C[5]}_2.JPEG",
        f"train/{C[6]}/images/{C[6]}_0.JPEG",
    ]
    assert not any("0x" in item["reason"] for item in report["undecodable"])  # a memory address changes each time
    assert report["num_images"] == {"train": 28, "val": 10, "test": 20}


def test_grey_and_large_images_become_rgb_of_one_size_without_squashing(prepare, make_members, make_image):
    members = make_members()
    members[train_member(C[0], 0)] = make_image(1, mode="L")
    wide = Image.new("RGB", (32, 16), (0, 0, 255))
    wide.paste((255, 0, 0), (8, 0, 24, 16))  # its middle square
    buffer = io.BytesIO()
    wide.save(buffer, format="PNG")
    members[train_member(C[0], 1)] = buffer.getvalue()
    packed, report = prepare(members)
    assert report["modes"] == {"L": 1, "RGB": 59}
    assert report["sizes"] == {"32x16": 1, "8x8": 59}
    ids = [*packed.train.ids, *packed.val.ids]
    position = ids.index(f"train/{C[0]}/images/{C[0]}_1.JPEG")
    middle = np.concatenate([packed.train.images, packed.val.images])[position, 4, 4]
    assert middle.tolist() == [255, 0, 0]


def test_too_few_images_names_the_keys_and_the_count(prepare, make_members):
    with pytest.raises(InputError, match=rf"image_datasets.tiny10: num_train_per_class 4 .* need 5 .* has 4 of {C[0]}"):
        prepare(make_members(), num_train_per_class=4)


def test_an_unknown_subset_names_the_allowed_ones(prepare, make_members):
    expected = "image_datasets.tiny10.subset: got 'tiny31': expected one of tiny10, tiny20, tiny30, tiny200, scenes10"
    with pytest.raises(InputError, match=expected):
        prepare(make_members(), subset="tiny31")
    with pytest.raises(InputError, match=r"lacks 30 of its classes: n01443537"):
        prepare(make_members(), subset="tiny30")
    with pytest.raises(InputError, match=r"it has 200 classes, .*tiny.zip has 10"):
        prepare(make_members(), subset="tiny200")


def test_val_is_never_read_as_a_class_folder(prepare, make_members):
    """The classic mistake: val images lie in one folder, so their labels are in val_annotations.txt only."""
    members = make_members()
    lines = members["tiny/val/val_annotations.txt"].decode().split("\n")
    all_one_class = "\n".join(line.replace(line.split("\t")[1], C[0]) if line else "" for line in lines)
    members["tiny/val/val_annotations.txt"] = all_one_class.encode()
    with pytest.raises(
        InputError, match=rf"expected equally many images of every class, got 0 of {C[9]} and 20 of {C[0]}"
    ):
        prepare(members)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("tiny/val/images/val_3.JPEG"), r"lists 1 missing images: val/images/val_3.JPEG"),
        (lambda m: m.update({"tiny/val/images/val_99.JPEG": b""}), r"does not list 1 images: val/images/val_99.JPEG"),
        (lambda m: m.pop("tiny/val/val_annotations.txt"), "has no tiny/val/val_annotations.txt"),
        (lambda m: m.pop("tiny/wnids.txt"), "expected one wnids.txt"),
        (lambda m: m.update({"tiny/words.txt": b"\xff"}), "words.txt: expected UTF-8"),
        (lambda m: m.update({"tiny/train/x/images/x_0.JPEG": b""}), "its class x is not in tiny/wnids.txt"),
        (lambda m: m.update({"tiny/val/val_annotations.txt": b"val_0.JPEG\tx\n"}), "expected a file name, a class"),
    ],
)
def test_an_archive_of_another_layout_is_refused_by_name(prepare, make_members, change, message):
    members = make_members()
    change(members)
    with pytest.raises(InputError, match=rf"tiny.zip: .*{message}"):
        prepare(members)


def test_a_corrupt_zip_is_refused_by_name(raw_folder, make_members, make_zip, tmp_path):
    content = make_zip(make_members())
    for corrupt in (b"", content[: len(content) // 2], content[:20_000] + b"\0" * 500 + content[20_500:]):
        with pytest.raises(InputError, match=r"tiny.zip: (not a readable zip archive|.*JPEG: damaged)"):
            prepare_images(settings(), raw_folder(corrupt), name="tiny10", scratch=tmp_path / "scratch")


def test_an_archive_that_changed_after_it_was_fetched_is_refused(raw_folder, make_members, make_zip, tmp_path):
    folder = raw_folder(make_zip(make_members()))
    (folder / "tiny.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"tiny.zip: has sha256 .*: source.json says .*; fetch the source again"):
        prepare_images(settings(), folder, name="tiny10", scratch=tmp_path / "scratch")
    (folder / "tiny.zip").unlink()
    with pytest.raises(InputError, match=r"tiny.zip: no such file, although source.json names it"):
        prepare_images(settings(), folder, name="tiny10", scratch=tmp_path / "scratch")
    (folder / "source.json").write_text("{}")
    with pytest.raises(InputError, match=r"source.json: expected a source note"):
        prepare_images(settings(), folder, name="tiny10", scratch=tmp_path / "scratch")


def test_prepared_pixels_are_mapped_from_files(prepare, make_members, tmp_path):
    """Nothing holds a split in memory, and the decoded images are gone once the splits are cut."""
    packed, _ = prepare(make_members())
    for split, part in packed.splits.items():
        assert isinstance(part.images, np.memmap)
        assert np.array_equal(np.load(tmp_path / "scratch" / f"{split}.npy"), part.images)
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["test.npy", "train.npy", "val.npy"]
