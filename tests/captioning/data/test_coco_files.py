"""Captions of a person's own, in COCO's format, are fetched by path and prepared like any others."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from seesay.captioning.data.records import CaptionRecords, open_caption_images, read_caption_records, write_caption_records
from seesay.sources.fetch import fetch_caption_source
from seesay.captioning.data.prepare import prepare_captions
from seesay.sources.provenance import SourceNote, read_source
from seesay.core.errors import InputError
from seesay.params.datasets import CaptionSource, CocoFilesSource, ScenesCaptionSource
from seesay.core.paths import Paths
from tests.captioning.data.own_captions import (
    checksum,
    dataset_settings,
    own_source,
    picture,
    split_of,
    write_annotations,
    write_archive,
    write_folder,
)


def fetch(source: CaptionSource, root: Path) -> SourceNote:
    folder = Paths(root).raw_captions("own")
    return fetch_caption_source(source, folder, mirror=None, scratch=root / ".work", root=root)


def prepare(root: Path, **settings: float) -> CaptionRecords:
    return prepare_captions(dataset_settings(**settings), Paths(root).raw_captions("own"), name="own")[0]


def files_in(root: Path) -> list[str]:
    return sorted(path.name for path in Paths(root).raw_captions("own").iterdir())


def test_a_folder_and_archives_become_records_whose_images_can_be_read(tmp_path: Path) -> None:
    fetch(own_source(tmp_path / "home"), tmp_path)
    captions = prepare(tmp_path)
    assert [(r.split, r.image_id, r.archive, r.file_name, r.captions) for r in captions.records] == [
        *(("train", n, "images_train.zip", f"{n}.png", (f"picture {n}",)) for n in (1, 2, 3, 4)),
        ("val", 11, "images_val.zip", "11.png", ("picture 11",)),
        *(("test", n, "images_test.zip", f"some/where/{n}.png", (f"picture {n}",)) for n in (21, 22)),
    ]
    assert len({image.tobytes() for image in open_caption_images(captions, Paths(tmp_path))}) == 7


def test_the_note_names_files_and_digests_but_no_place_of_this_machine(tmp_path: Path) -> None:
    note = fetch(own_source(tmp_path / "home"), tmp_path)
    assert note == read_source(Paths(tmp_path).raw_captions("own"))
    assert [(file.name, file.url) for file in note.files][:3] == [
        ("captions_train.json", "local:train.json"),
        ("images_train.zip", "local:pictures"),
        ("captions_val.json", "local:val.json"),
    ]
    assert note.substitutes == ()
    for name in ("source.json", "coco_files.json"):
        assert "home" not in (Paths(tmp_path).raw_captions("own") / name).read_text()


def test_equal_files_elsewhere_and_in_another_order_give_equal_bytes(tmp_path: Path) -> None:
    for root, numbers in ((tmp_path / "a", (1, 2, 3, 4)), (tmp_path / "b", (4, 2, 3, 1))):
        root.mkdir()
        source = own_source(root / "home")
        shutil.rmtree(root / "home/pictures")
        write_folder(root / "home/pictures", numbers)
        (root / "home/pictures/notes.txt").write_text("no image")
        fetch(source, root)
    first, second = (Paths(tmp_path / name).raw_captions("own") for name in ("a", "b"))
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_paths_may_be_relative_to_the_workspace(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home").model_dump()
    for split in ("train", "val", "test"):
        for part in source[split].values():
            part["path"] = str(Path(part["path"]).relative_to(tmp_path))
    fetch(CocoFilesSource.model_validate(source), tmp_path)
    assert len(prepare(tmp_path)) == 7


def test_changed_annotations_are_refused_and_the_old_ones_stay(tmp_path: Path) -> None:
    """The message has the checksum to write."""
    source = own_source(tmp_path / "home")
    fetch(source, tmp_path)
    before = (Paths(tmp_path).raw_captions("own") / "captions_train.json").read_bytes()
    changed = tmp_path / "home/train.json"
    write_annotations(changed, {1: ["another"]})
    with pytest.raises(InputError) as error:
        fetch(source, tmp_path)
    assert "caption_sources.own.train.annotations.checksum: expected sha256:" in str(error.value)
    assert f"{changed} has {checksum(changed)}" in str(error.value)
    assert (Paths(tmp_path).raw_captions("own") / "captions_train.json").read_bytes() == before


def test_images_are_checked_where_a_checksum_is_given(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    fetch(source, tmp_path)
    packed = checksum(Paths(tmp_path).raw_captions("own") / "images_train.zip")
    train = split_of(tmp_path / "home/train.json", tmp_path / "home/pictures", images_checksum=packed)
    source = source.model_copy(update={"train": train})
    fetch(source, tmp_path)
    (tmp_path / "home/pictures/1.png").write_bytes(picture(99))
    with pytest.raises(InputError, match=r"caption_sources\.own\.train\.images\.checksum: expected sha256:"):
        fetch(source, tmp_path)


def test_an_archive_that_is_there_already_is_not_copied_again(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    archive = Paths(tmp_path).raw_captions("own") / "images_test.zip"
    fetch(source, tmp_path)
    first = archive.stat().st_ino
    fetch(source, tmp_path)
    assert archive.stat().st_ino == first
    archive.write_bytes(b"damaged")
    fetch(source, tmp_path)
    assert archive.read_bytes() == (tmp_path / "home/t.zip").read_bytes()


@pytest.mark.parametrize(
    ("part", "content", "says"),
    [
        ("train.json", None, r"train\.annotations\.path: .*train\.json: no such file"),
        ("v.zip", None, r"val\.images\.path: .*v\.zip: no such folder or zip archive"),
        ("v.zip", b"no zip", r"val\.images\.path: .*v\.zip: expected a folder of images or a zip archive"),
    ],
)
def test_a_path_to_nothing_or_to_something_else_is_named(
    tmp_path: Path, part: str, content: bytes | None, says: str
) -> None:
    source = own_source(tmp_path / "home")
    (tmp_path / "home" / part).unlink()
    if content is not None:
        (tmp_path / "home" / part).write_bytes(content)
    with pytest.raises(InputError, match=says):
        fetch(source, tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    for path in (tmp_path / "home/pictures").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"pictures: no image in this folder"):
        fetch(source, tmp_path)


def test_images_that_splits_share_are_brought_in_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    images = write_folder(home / "all", range(1, 8))
    write_annotations(home / "train.json", {n: [f"picture {n}"] for n in range(1, 6)})
    write_annotations(home / "test.json", {n: [f"picture {n}"] for n in (6, 7)})
    splits = {split: split_of(home / f"{split}.json", images) for split in ("train", "test")}
    fetch(CocoFilesSource(kind="coco_files", **splits), tmp_path)
    assert files_in(tmp_path) == [
        "captions_test.json", "captions_train.json", "coco_files.json", "images_train.zip", "source.json",
    ]  # fmt: skip
    captions = prepare(tmp_path, val_fraction=0.2)
    assert {split: len(captions.of(split)) for split in ("train", "val", "test")} == {"train": 4, "val": 1, "test": 2}


def test_a_split_or_a_source_of_an_earlier_choice_leaves_nothing(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    fetch(source, tmp_path)
    fetch(source.model_copy(update={"val": None}), tmp_path)
    assert not [name for name in files_in(tmp_path) if "val" in name]
    fetch(ScenesCaptionSource(kind="scenes", seed=0, num_train=3, num_val=1), tmp_path)
    assert files_in(tmp_path) == ["annotations_trainval2017.zip", "source.json", "train2017.zip", "val2017.zip"]
    fetch(source, tmp_path)
    assert "train2017.zip" not in files_in(tmp_path)
    assert len(prepare(tmp_path)) == 7


def test_an_annotated_image_that_is_not_there_counts_as_missing(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    (tmp_path / "home/pictures/3.png").unlink()
    fetch(source, tmp_path)
    with pytest.raises(InputError, match=r"max_missing_images allows 0\n.*images_train\.zip: 3\.png"):
        prepare(tmp_path)
    assert [r.image_id for r in prepare(tmp_path, missing=1).of("train")] == [1, 2, 4]


def test_an_image_id_that_two_splits_use_is_refused(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    write_annotations(tmp_path / "home/test.json", {1: ["x"]})
    write_archive(tmp_path / "home/t.zip", (1,))
    test = split_of(tmp_path / "home/test.json", tmp_path / "home/t.zip")
    fetch(source.model_copy(update={"test": test}), tmp_path)
    with pytest.raises(InputError, match=r"image id 1 is both 1\.png and 1\.png: expected ids .* do not share"):
        prepare(tmp_path)


def test_a_file_name_that_two_members_end_with_is_refused(tmp_path: Path) -> None:
    source = own_source(tmp_path / "home")
    write_archive(tmp_path / "home/t.zip", (21, 22), inside="a/")
    extra = write_archive(tmp_path / "home/u.zip", (21, 22), inside="b/")
    with zipfile.ZipFile(tmp_path / "home/t.zip", "a") as archive, zipfile.ZipFile(extra) as other:
        archive.writestr("b/21.png", other.read("b/21.png"))
    fetch(source, tmp_path)
    with pytest.raises(InputError, match=r"images_test\.zip: 21\.png may be a/21\.png or b/21\.png"):
        prepare(tmp_path)


def test_a_damaged_layout_is_refused(tmp_path: Path) -> None:
    fetch(own_source(tmp_path / "home"), tmp_path)
    path = Paths(tmp_path).raw_captions("own") / "coco_files.json"
    for content in ({}, {"train": {"annotations": "a"}}, {"other": {}}, {"train": 3}):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"coco_files\.json: expected annotations and images"):
            prepare(tmp_path)


def test_strange_line_breaks_in_captions_are_kept_through_records(tmp_path: Path) -> None:
    odd = ["a\u2028dog", "b\rcat", "c\x0chorse", "d\u0085cow ||| e", "f\r\n\x1dgoat"]
    source = own_source(tmp_path / "home")
    write_annotations(tmp_path / "home/train.json", {1: odd, 2: ["two"], 3: ["three"], 4: ["four"]})
    train = split_of(tmp_path / "home/train.json", tmp_path / "home/pictures")
    fetch(source.model_copy(update={"train": train}), tmp_path)
    write_caption_records(tmp_path / "records", prepare(tmp_path))
    read = read_caption_records(tmp_path / "records")
    assert read.of("train")[0].captions == tuple(odd)
    assert [record.captions for record in read.of("train")[1:]] == [("two",), ("three",), ("four",)]
