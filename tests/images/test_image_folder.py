"""User-supplied labelled images: layouts of folders, tables of labels, splits, duplicates, and what is refused."""

import io
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from seesay.core.errors import InputError
from seesay.core.files import file_digest
from seesay.images.decode import MAX_HASH_DISTANCE, Example, near_duplicates
from seesay.images.image_folder import divide
from seesay.images.packed import PackedImages
from seesay.images.prepare import prepare_images
from seesay.params.datasets import ImageDataset, ImageFolderSource, ImageLimits, LocalFile, SplitShares
from seesay.sources.fetch import fetch_image_source
from seesay.sources.local import changed_files

SHARES = {"val": 0.2, "test": 0.3}


def photo(value: int, *, size: tuple[int, int] = (40, 30), mode: str = "RGB", kind: str = "PNG") -> bytes:
    """Return an image of smooth random colours; equal values give equal pixels."""
    coarse = np.random.default_rng(value).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return saved(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode), kind)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def class_folders(counts: Mapping[str, int], top: str = "", first: int = 0) -> dict[str, bytes]:
    """Return `counts` different photographs of each class by path."""
    names = [f"{top}{label}/{number}.png" for label, count in counts.items() for number in range(count)]
    return {name: photo(first + value) for value, name in enumerate(names)}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., tuple[PackedImages, dict[str, Any]]]:
    """A function that imports and prepares files from a folder or, with `as_zip`, from an archive of them."""

    def call(
        files: Mapping[str, bytes], *, table: str | None = None, as_zip: bool = False, **changes: Any
    ) -> tuple[PackedImages, dict[str, Any]]:
        shutil.rmtree(tmp_path / "photos", ignore_errors=True)
        path = write_archive(tmp_path / "p.zip", files) if as_zip else write_files(tmp_path / "photos", files)
        labels = None
        if table is not None:
            (tmp_path / "table.csv").write_text(table)
            labels = LocalFile(path="table.csv", checksum=f"sha256:{file_digest(tmp_path / 'table.csv')}")
        source = ImageFolderSource(kind="image_folder", path=path.name, labels=labels)
        raw = tmp_path / "raw/mine"
        fetch_image_source(source, raw, mirror=None, scratch=tmp_path / ".work", root=tmp_path)
        return prepare_images(settings(**changes), raw, name="mine", scratch=tmp_path / "scratch")

    return call


def settings(**changes: Any) -> ImageDataset:
    limits = ImageLimits(
        max_undecodable=changes.pop("max_undecodable", 0),
        max_left_out_per_class=changes.pop("max_left_out_per_class", 0),
    )
    values: dict[str, Any] = {"source": "mine", "image_size": 16, "limits": limits}
    shares = changes.pop("splits", SHARES)
    if shares is not None:
        values |= {"splits": SplitShares(**shares), "split_seed": 0}
    return ImageDataset(**values | changes)


# ------------------------------------------------------------------ layouts


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("top", ["", "My photos/2026/"])
def test_class_folders_are_classes_wherever_they_lie(prepare, as_zip, top):
    files = class_folders({"cat": 10, "dog": 20}, top)
    packed, report = prepare({**files, f"{top}notes.txt": b"x", f"{top}cat/Thumbs.db": b"x"}, as_zip=as_zip)
    assert [(one.wnid, one.label) for one in packed.classes] == [("cat", "cat"), ("dog", "dog")]
    assert report["num_images"] == {"train": 15, "val": 6, "test": 9}
    assert {name: Counter(split.labels.tolist()) for name, split in packed.splits.items()} == {
        "train": {0: 5, 1: 10},
        "val": {0: 2, 1: 4},
        "test": {0: 3, 1: 6},
    }
    assert set(packed.train.ids) < {f"{label}/{number}.png" for label in ("cat", "dog") for number in range(20)}
    json.dumps(report)


def test_a_folder_and_its_zip_give_the_same_dataset(prepare):
    files = class_folders({"cat": 10, "dog": 20})
    assert prepare(files)[0].digest == prepare(files, as_zip=True)[0].digest


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "Testing")])
def test_folders_for_splits_are_taken_as_they_are(prepare, names):
    files: dict[str, bytes] = {}
    for index, name in enumerate(names):
        files |= class_folders({"cat": 3, "dog": 4 - index}, f"{name}/", first=100 * index)
    packed, report = prepare(files, splits=None)
    assert report["num_images"] == {"train": 7, "val": 6, "test": 5}
    assert report["given_splits"] == ["train", "val", "test"]
    assert packed.test.ids[0] == f"{names[2]}/cat/0.png"


def test_what_the_folders_lack_is_cut_from_train(prepare):
    files = class_folders({"cat": 10, "dog": 10}, "train/") | class_folders({"cat": 2, "dog": 2}, "test/", first=50)
    _, report = prepare(files, splits={"val": 0.2})
    assert report["num_images"] == {"train": 16, "val": 4, "test": 4}


def test_nested_folders_belong_to_their_class(prepare):
    files = class_folders({"cat": 5, "dog": 5}) | class_folders({"2025": 5}, "cat/", first=50)
    assert prepare(files)[1]["classes"][0] == {"wnid": "cat", "label": "cat", "train": 5, "val": 2, "test": 3}


def test_a_class_may_have_the_name_of_a_split(prepare):
    files = class_folders({"train": 5, "bus": 5})
    assert [one.label for one in prepare(files)[0].classes] == ["bus", "train"]


def test_a_test_folder_without_labels_is_reported_and_not_used(prepare):
    files = class_folders({"cat": 5, "dog": 5}, "train/")
    for extra in ("test/1.png", "test/images/1.png"):
        assert prepare({**files, extra: photo(99)})[1]["unlabelled"] == [extra]
        with pytest.raises(InputError, match=r"mine.splits.test: missing: expected a share, .*1 images there have no"):
            prepare({**files, extra: photo(99)}, splits={"val": 0.2})


# ------------------------------------------------------------------ tables


def test_a_table_gives_labels_splits_and_groups(prepare):
    names = [f"{number}.png" for number in range(12)]
    files = {f"all/{name}": photo(value) for value, name in enumerate(names)} | {"all/spare.png": photo(99)}
    rows = [
        f"{'all/' if index % 2 else ''}{name},{'cat' if index % 3 else 'a dog, small'},{'test' if index > 7 else ''},,x"
        for index, name in enumerate(names)
    ]
    quoted = [row.replace("a dog, small", '"a dog, small"') for row in rows]
    packed, report = prepare(
        files, table="\n".join(["\ufeffFile, label,split,group,comment", *quoted]), splits={"val": 0.3}
    )
    assert [one.label for one in packed.classes] == ["a dog, small", "cat"]
    assert report["num_images"] == {"train": 5, "val": 3, "test": 4}
    assert set(packed.test.ids) == {"8.png", "9.png", "10.png", "11.png"}
    assert report["unlabelled"] == ["spare.png"]


def test_groups_stay_in_one_split(prepare):
    files = {f"{number}.png": photo(number) for number in range(60)}
    rows = [f"{number}.png,{'cat' if number % 4 else 'dog'},person {number // 5}" for number in range(60)]
    packed, report = prepare(files, table="\n".join(["file,label,group", *rows]))
    splits_of: dict[int, set[str]] = {}
    for name, split in packed.splits.items():
        for member in split.ids:
            splits_of.setdefault(int(member.removesuffix(".png")) // 5, set()).add(name)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert report["num_groups"] == 12
    assert report["num_images"] == {"train": 30, "val": 10, "test": 20}  # whole groups of five


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name;label\n0.png;cat\n", r"labels.csv: expected the columns file and label, got name;label"),
        ("", r"labels.csv: expected the columns file and label, got none"),
        ("file,label\n0.png,cat\n1.png,\n", r"labels.csv: line 3: label: got '': expected a value"),
        ("file,label\n0.png,cat\n0.png,dog\n", r"labels.csv: line 3: 0.png is listed twice"),
        ("file,label,split\n0.png,cat,holdout\n", r"line 2: split: got 'holdout': expected train, val or test"),
        ("file,label\n0.png,cat\n7.png,dog\n", r"labels.csv: 1 images are not in .*images.zip: 7.png; it has, .*0.png"),
        ("file,label\n0.png,cat\n1.png,cat\n", r"labels.csv: expected at least two labels, found 1 \(cat\)"),
        ('file,label\n0.png,"cat\n', r"labels.csv: line \d: unexpected end of data"),
        ("file,label,split,group\n0.png,cat,train,a\n1.png,dog,test,a\n", r"line 3: group 'a' is in train and in test"),
        ("file,label,split\n0.png,cat,\n1.png,dog,\n2.png,fox,test\n", r"labels.csv: test has classes .* lacks: fox"),
    ],
)
def test_a_wrong_table_is_refused_by_line(prepare, table, message):
    with pytest.raises(InputError, match=message):
        prepare({f"{number}.png": photo(number) for number in range(3)}, table=table)


# ------------------------------------------------------------------- splits


def examples(counts: Mapping[str, int]) -> list[Example]:
    return [Example(f"{label}{n}", "train", label, "") for label, count in counts.items() for n in range(count)]


def test_splits_depend_on_seed_and_names_and_keep_most_when_images_come():
    images = examples({"cat": 200, "dog": 100})
    shares = SplitShares(val=0.1, test=0.2)
    first = divide(images, {}, shares, seed=0)
    assert Counter(first.values()) == {"train": 210, "val": 30, "test": 60}
    assert first == divide(images[::-1], {}, shares, seed=0)
    assert first != divide(images, {}, shares, seed=1)
    more = divide([*images, *examples({"cat": 204})[200:]], {}, shares, seed=0)
    assert sum(more[name] != split for name, split in first.items()) < 60


def test_every_split_has_each_class_of_three_images_or_groups():
    images = examples({"cat": 3, "dog": 100})
    found = divide(images, {}, SplitShares(val=0.01, test=0.01), seed=0)
    assert {found[f"cat{n}"] for n in range(3)} == {"train", "val", "test"}
    groups = {image.member: f"{image.wnid}{number % 3}" for number, image in enumerate(images)}
    found = divide(images, groups, SplitShares(val=0.01, test=0.01), seed=0)
    assert {found[f"dog{n}"] for n in range(100)} == {"train", "val", "test"}


def test_a_class_with_too_few_images_is_named(prepare):
    with pytest.raises(InputError, match=r"class 'cat' has 2 usable images, and none for \w+: expected at least one"):
        prepare(class_folders({"cat": 2, "dog": 9}))
    rows = ["0.png,cat,a", "1.png,cat,a", "2.png,cat,b", *(f"{n}.png,dog,{n}" for n in range(3, 9))]
    files = {f"{number}.png": photo(number) for number in range(9)}
    with pytest.raises(InputError, match=r"class 'cat' has 3 usable images.*in a group of its own"):
        prepare(files, table="\n".join(["file,label,group", *rows]))


# ------------------------------------------------------- what is left out


def test_what_is_left_out_is_in_the_report(prepare):
    """Four uneven classes, several modes and sizes, an unreadable file, and copies in one class and in two."""
    files = class_folders({"ant": 30, "bee": 12, "cow": 8, "dog": 5})
    files["ant/wide.jpg"] = photo(201, size=(200, 50), kind="JPEG")
    files["ant/grey.png"] = photo(202, mode="L")
    files["bee/palette.png"] = photo(203, mode="P")
    files["bee/clear.png"] = photo(204, mode="RGBA")
    files["bee/cut.jpg"] = photo(205, kind="JPEG")[:300]
    files["cow/again.png"] = files["cow/0.png"]
    files["dog/ant.png"] = files["ant/3.png"]
    with pytest.raises(InputError, match=r"1 undecodable images; image_datasets.mine.limits.max_undecodable allows 0"):
        prepare(files)
    packed, report = prepare(files, max_undecodable=1, max_left_out_per_class=1)
    assert [(item["member"], item["reason"], item["same_as"]) for item in report["left_out"]] == [
        ("ant/3.png", "in another training class", ["dog/ant.png"]),
        ("cow/again.png", "a copy within its class", ["cow/0.png"]),
        ("dog/ant.png", "in another training class", ["ant/3.png"]),
    ]
    assert [item["member"] for item in report["undecodable"]] == ["bee/cut.jpg"]
    assert report["modes"] == {"L": 1, "P": 1, "RGB": 58, "RGBA": 1}
    assert report["leakage"] == {"train_val": 0, "train_test": 0, "val_test": 0}
    assert sum(report["num_images"].values()) == 58
    assert packed.train.images.shape[1:] == (16, 16, 3)


def test_an_image_that_a_later_split_has_is_left_out_of_the_earlier(prepare):
    files: dict[str, bytes] = {}
    for index, split in enumerate(("train", "val", "test")):
        files |= class_folders({"cat": 3, "dog": 3}, f"{split}/", first=100 * index)
    files["train/cat/0.png"] = files["val/cat/0.png"] = files["test/dog/0.png"]
    files["train/dog/1.png"] = files["val/dog/1.png"]
    _, report = prepare(files, splits=None, max_left_out_per_class=2)
    assert [(item["member"], item["reason"]) for item in report["left_out"]] == [
        ("train/cat/0.png", "in the test split"),
        ("train/dog/1.png", "in the val split"),
        ("val/cat/0.png", "in the test split"),
    ]
    assert report["num_images"] == {"train": 4, "val": 5, "test": 6}


def test_formats_that_cannot_be_read_are_named_not_ignored(prepare):
    """Telephones write HEIC, which Pillow does not read."""
    with pytest.raises(InputError, match=r"cat/IMG_1.HEIC \(cannot identify image file"):
        prepare({**class_folders({"cat": 5, "dog": 5}), "cat/IMG_1.HEIC": b"\0\0\0\x18ftypheic"})


def test_near_duplicates_are_reported_and_kept(prepare):
    files = class_folders({"cat": 20, "dog": 20})
    with Image.open(io.BytesIO(photo(0, size=(400, 300)))) as image:
        files["cat/smaller.jpg"] = saved(
            image.resize((300, 225)).filter(ImageFilter.GaussianBlur(1)), "JPEG", quality=70
        )
        files["cat/brighter.png"] = saved(image.point(lambda level: min(255, int(level * 1.1) + 5)))
    _, report = prepare(files, image_size=64)
    near = report["near_duplicates"]
    assert sum(report["num_images"].values()) == 42
    assert sum(near["num_pairs"].values()) == 3
    assert {name for pair in near["pairs"] for name in pair["files"]} == {
        "cat/0.png", "cat/smaller.jpg", "cat/brighter.png",
    }  # fmt: skip
    within = [pair["splits"][0] == pair["splits"][1] for pair in near["pairs"]]
    assert within == sorted(within), "pairs of different splits first"
    assert near["max_distance"] == MAX_HASH_DISTANCE


def test_near_duplicates_of_many_blocks_are_those_of_all_pairs(prepare, monkeypatch):
    import imagehash

    packed, _ = prepare(class_folders({"cat": 60, "dog": 60}))
    monkeypatch.setattr("seesay.images.decode.MAX_HASH_DISTANCE", 20)  # so that unrelated images are near
    monkeypatch.setattr("seesay.images.decode._ROWS_AT_A_TIME", 7)
    found = near_duplicates(packed)
    names = [name for split in packed.splits.values() for name in split.ids]
    hashes = [imagehash.phash(Image.fromarray(one)) for split in packed.splits.values() for one in split.images]
    expected = {
        (names[first], names[second]): hashes[first] - hashes[second]
        for first in range(len(names))
        for second in range(first + 1, len(names))
        if hashes[first] - hashes[second] <= 20
    }
    assert 50 < len(expected) < 200
    assert {tuple(pair["files"]): pair["distance"] for pair in found["pairs"]} == expected
    assert sum(found["num_pairs"].values()) == len(expected)


# ----------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        (
            {"0.png": photo(0), "1.png": photo(1)},
            {},
            r"images.zip: expected at least two class folders, found 0 ",
        ),
        (class_folders({"cat": 9}), {}, r"images.zip: expected at least two class folders, found 0"),
        (class_folders({"cat": 5, "dog": 5}, "train/") | class_folders({"fox": 1}), {}, "train beside fox: expected"),
        (
            class_folders({"cat": 3, "dog": 3}, "train/") | class_folders({"cat": 1, "fox": 1}, "val/"),
            {"splits": {"test": 0.3}},
            "val has classes that train lacks: fox",
        ),
        (
            class_folders({"cat": 5, "dog": 5}, "train/") | class_folders({"cat": 1, "dog": 1}, "val/"),
            {},
            r"image_datasets.mine.splits.val: got 0.2: expected none, since .*images.zip has a val split",
        ),
        (class_folders({"cat": 5, "dog": 5}), {"splits": None}, r"mine.splits.val: missing: expected a share"),
    ],
)
def test_what_cannot_be_labelled_or_split_is_refused_in_one_line(prepare, files, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(files, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": "tiny30"}, "splits: expected none with subset"),
        ({"num_val_per_class": 3}, "num_val_per_class: expected none without subset"),
        ({"splits": None, "split_seed": 1}, "split_seed: expected none without subset and splits"),
        ({"subset": "tiny30", "splits": None}, "num_train_per_class: missing: expected with subset"),
        ({"splits": {"val": 0.5, "test": 0.5}}, "got val 0.5 and test 0.5: expected less than 1 together"),
    ],
)
def test_settings_of_two_kinds_of_datasets_do_not_mix(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_a_path_that_leads_nowhere_and_a_changed_source_are_refused(tmp_path):
    def fetch(**values: Any) -> None:
        source = ImageFolderSource(kind="image_folder", **values)
        fetch_image_source(source, tmp_path / "raw/mine", mirror=None, scratch=tmp_path, root=tmp_path)

    with pytest.raises(InputError, match=r"params.yaml: image_sources.mine.path: .*/photos: no such folder or zip"):
        fetch(path="photos")
    write_files(tmp_path / "photos", {"notes.txt": b"x"})
    with pytest.raises(InputError, match=r"image_sources.mine.path: .*/photos: no image in this folder"):
        fetch(path="photos")
    write_files(tmp_path / "photos", class_folders({"cat": 1}))
    with pytest.raises(InputError, match=r"image_sources.mine.checksum: expected sha256:0+, but .*/photos"):
        fetch(path="photos", checksum=f"sha256:{'0' * 64}")
    assert not (tmp_path / "raw/mine/images.zip").exists()
    labels = LocalFile(path="labels.csv", checksum=f"sha256:{'0' * 64}")
    with pytest.raises(InputError, match=r"params.yaml: image_sources.mine.labels.path: .*/labels.csv: no such file"):
        fetch(path="photos", labels=labels)


def test_another_kind_of_source_leaves_nothing_of_the_folder_behind(tmp_path):
    (tmp_path / "t.csv").write_text("file,label\n")
    labels = LocalFile(path="t.csv", checksum=f"sha256:{file_digest(tmp_path / 't.csv')}")
    write_files(tmp_path / "photos", class_folders({"cat": 1}))
    source = ImageFolderSource(kind="image_folder", path="photos", labels=labels)
    fetch_image_source(source, tmp_path / "raw", mirror=None, scratch=tmp_path, root=tmp_path)
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {"images.zip", "labels.csv", "source.json"}
    source = source.model_copy(update={"labels": None})
    fetch_image_source(source, tmp_path / "raw", mirror=None, scratch=tmp_path, root=tmp_path)
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {"images.zip", "source.json"}


def test_files_that_changed_since_they_were_fetched_are_found(tmp_path):
    """DVC tracks the copy. Added, removed and replaced files are found without reading any."""
    (tmp_path / "t.csv").write_text("file,label\n")
    labels = LocalFile(path="t.csv", checksum=f"sha256:{file_digest(tmp_path / 't.csv')}")
    photos, raw = write_files(tmp_path / "photos", class_folders({"cat": 2, "dög": 2})), tmp_path / "raw"
    source = ImageFolderSource(kind="image_folder", path="photos", labels=labels)
    assert changed_files(source, raw, root=tmp_path) == []
    fetch_image_source(source, raw, mirror=None, scratch=tmp_path, root=tmp_path)
    (photos / "notes.txt").write_text("no image")
    assert changed_files(source, raw, root=tmp_path) == []
    (photos / "cat/2.png").write_bytes(b"new")
    (tmp_path / "t.csv").write_text("file,label\ncat/2.png,cat\n")
    assert changed_files(source, raw, root=tmp_path) == [photos, tmp_path / "t.csv"]
    (photos / "cat/2.png").unlink()
    (photos / "cat/1.png").write_bytes(b"replaced")
    assert changed_files(source, raw, root=tmp_path) == [photos, tmp_path / "t.csv"]
    zipped = write_archive(tmp_path / "photos.zip", class_folders({"cat": 2}))
    source = ImageFolderSource(kind="image_folder", path="photos.zip")
    fetch_image_source(source, raw, mirror=None, scratch=tmp_path, root=tmp_path)
    assert changed_files(source, raw, root=tmp_path) == []
    write_archive(zipped, class_folders({"cat": 3}))
    assert changed_files(source, raw, root=tmp_path) == [zipped]


# ------------------------------------------------------------ Tiny ImageNet


@pytest.mark.parametrize("top", ["", "archive/tiny-imagenet-200/"])
@pytest.mark.parametrize("as_zip", [False, True])
def test_an_extracted_or_repacked_tiny_imagenet_is_recognised(prepare, make_members, top, as_zip):
    members = {f"{top}{name.removeprefix('tiny/')}": content for name, content in make_members().items()}
    members |= {f"{top}.DS_Store": b"x", f"{top}test/images/test_0.JPEG": photo(999, kind="JPEG")}
    counts = {"num_train_per_class": 3, "num_val_per_class": 1, "split_seed": 0}
    packed, report = prepare(members, as_zip=as_zip, splits=None, subset="scenes10", **counts)
    assert report["num_images"] == {"train": 30, "val": 10, "test": 20}
    assert packed.classes[3].label == "word 3"
    with pytest.raises(InputError, match=r"has Tiny ImageNet's wnids.txt: expected subset in its entry of image_data"):
        prepare(members, as_zip=as_zip)
