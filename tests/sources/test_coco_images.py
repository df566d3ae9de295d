"""Fetching a seeded subset of COCO image by image."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from seesay.core.errors import InputError
from seesay.params.datasets import Archive, CocoSource
from seesay.sources.archives import file_digests
from seesay.sources.coco_images import CocoImage, choose_images
from seesay.sources.fetch import fetch_caption_source
from seesay.sources.provenance import SourceNote, read_source

ANNOTATIONS = "annotations_trainval2017.zip"
NUM = {"train2017": 12, "val2017": 4}


def offered(num_train: int, num_val: int) -> dict[str, list[CocoImage]]:
    counts = {"train2017": num_train, "val2017": num_val}
    return {
        split: [CocoImage(split, f"{number:012d}.jpg", "") for number in range(count)]
        for split, count in counts.items()
    }


def test_a_subset_has_each_splits_share_and_at_least_one_of_each():
    def counts(num_images: int, num_train: int, num_val: int) -> tuple[int, int]:
        chosen = choose_images(offered(num_train, num_val), num_images=num_images, seed=0)
        return len(chosen["train2017"]), len(chosen["val2017"])

    assert counts(8, 12, 4) == (6, 2)
    assert counts(5, 1000, 10) == (4, 1)
    assert counts(2, 1, 1000) == (1, 1)
    assert counts(16, 12, 4) == (12, 4)


def test_a_larger_subset_of_the_same_seed_holds_the_smaller():
    """Another seed gives another subset."""

    def names(num_images: int, seed: int = 0) -> set[str]:
        chosen = choose_images(offered(120, 40), num_images=num_images, seed=seed)
        return {image.member for images in chosen.values() for image in images}

    assert names(40) < names(80)
    assert names(40) != names(40, seed=1)


@pytest.mark.parametrize("num_images", [1, 17])
def test_more_images_than_there_are_or_fewer_than_one_of_each_are_refused(num_images):
    with pytest.raises(InputError, match=f"num_images: got {num_images}: the annotations allow 2 to 16"):
        choose_images(offered(12, 4), num_images=num_images, seed=0)


@pytest.fixture
def members(file_server, make_zip, make_image) -> dict[str, bytes]:
    """All of COCO's images by member; the server has them, and the annotations that name their URLs."""
    images, annotations = {}, {}
    for split, count in NUM.items():
        entries = []
        for image_id in range(1, count + 1):
            name = f"{image_id:012d}.jpg"
            images[f"{split}/{name}"] = make_image(image_id + 100 * len(images))
            entries.append({"id": image_id, "file_name": name, "coco_url": f"{file_server.url}/{split}/{name}"})
        annotations[f"annotations/captions_{split}.json"] = json.dumps({"images": entries, "annotations": []}).encode()
    file_server.files |= images | {ANNOTATIONS: make_zip(annotations)}
    return images


@pytest.fixture
def fetch(file_server, members, tmp_path) -> Callable[..., SourceNote]:
    annotations = tmp_path / "official.zip"
    annotations.write_bytes(file_server.files[ANNOTATIONS])
    archives = [
        Archive(url=f"{file_server.url}/{name}", checksum=checksum)
        for name, checksum in (
            (ANNOTATIONS, f"sha256:{file_digests(annotations).sha256}"),
            ("train2017.zip", f"md5:{'0' * 32}"),
            ("val2017.zip", f"md5:{'0' * 32}"),
        )
    ]

    def call(num_images: int | None = 8, mirror: Path | None = None) -> SourceNote:
        source = CocoSource(
            kind="coco",
            annotations=archives[0],
            image_archives=tuple(archives[1:]),
            num_images=num_images,
            num_images_seed=0,
            num_workers=4,
        )
        located = None if mirror is None else str(mirror)
        return fetch_caption_source(source, tmp_path / "coco", mirror=located, scratch=tmp_path / ".work")

    return call


def images_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root / "coco").as_posix() for path in (root / "coco").glob("*2017/*"))


def images_asked(file_server) -> list[str]:
    return [name for name, _ in file_server.requests if name.endswith(".jpg")]


def test_a_subset_comes_image_by_image_from_the_urls_in_the_annotations(fetch, file_server, members, tmp_path):
    note = fetch()
    assert [file.name for file in note.files] == [ANNOTATIONS, "train2017/ (6 images)", "val2017/ (2 images)"]
    assert note == read_source(tmp_path / "coco")
    assert note.substitutes == ()
    assert note.files[1].url == f"{file_server.url}/train2017"
    assert sorted(images_asked(file_server)) == images_in(tmp_path)
    assert all((tmp_path / "coco" / name).read_bytes() == members[name] for name in images_in(tmp_path))
    subset = json.loads((tmp_path / "coco/subset.json").read_text())["images"]
    assert sorted(f"{split}/{name}" for split, names in subset.items() for name in names) == images_in(tmp_path)


def test_images_that_are_here_and_decode_are_kept_and_others_are_removed(fetch, file_server, tmp_path):
    first = fetch()
    cut, gone, *_ = (tmp_path / "coco" / name for name in images_in(tmp_path))
    cut.write_bytes(cut.read_bytes()[:-50])
    gone.unlink()
    (tmp_path / "coco/train2017/stranger.jpg").write_bytes(b"")
    file_server.requests.clear()
    assert fetch() == first
    assert sorted(images_asked(file_server)) == [f"train2017/{cut.name}", f"train2017/{gone.name}"]
    fetch(10)
    assert len(images_asked(file_server)) == 4


def test_missing_or_cut_images_are_named_and_the_others_kept(fetch, file_server, tmp_path):
    fetch()
    lost, cut, *_ = images_in(tmp_path)
    for name in (lost, cut):
        (tmp_path / "coco" / name).unlink()
    del file_server.files[lost]
    file_server.files[cut] = file_server.files[cut][:-50]
    with pytest.raises(InputError) as caught:
        fetch()
    first, *others = str(caught.value).split("\n")
    assert first == "2 of 8 images cannot be fetched; the others are kept"
    assert f"{lost}: {file_server.url}/{lost}: answered 404" in others[0]
    assert others[1].startswith(f"{cut}: {file_server.url}/{cut}: not a whole image: ")
    assert len(images_in(tmp_path)) == 6


def mirrored(members: Mapping[str, bytes], split: str) -> dict[str, bytes]:
    return {name: content for name, content in members.items() if name.startswith(split)}


def test_a_mirror_gives_single_files_and_archive_members_as_substitutes(
    fetch, file_server, members, mirror_folder, make_zip, tmp_path
):
    archive = make_zip(mirrored(members, "val2017"))
    folder = mirror_folder({**mirrored(members, "train2017"), "val2017.zip": archive})
    note = fetch(mirror=folder)
    assert images_asked(file_server) == []
    assert note.substitutes == ("train2017/ (6 images)", "val2017/ (2 images)")
    assert fetch().substitutes == note.substitutes  # what lies here is what it was, also without the mirror


def test_what_a_mirror_lacks_comes_from_its_own_url(fetch, file_server, members, mirror_folder, make_zip):
    note = fetch(mirror=mirror_folder({"val2017.zip": make_zip(mirrored(members, "val2017"))}))
    assert len(images_asked(file_server)) == 6
    assert note.substitutes


def test_a_mirrored_archive_or_image_that_breaks_its_sum_is_refused(fetch, members, mirror_folder, make_zip):
    folder = mirror_folder({"val2017.zip": make_zip(mirrored(members, "val2017"))})
    (folder / "val2017.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"val2017.zip: has sha256 .*: SHA256SUMS says"):
        fetch(mirror=folder)
    folder = mirror_folder(mirrored(members, "train2017"))
    for path in (folder / "train2017").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="its sha256 is not the one in the mirror's SHA256SUMS"):
        fetch(mirror=folder)


def test_asking_for_the_archives_removes_single_images(fetch, members, mirror_folder, make_zip, tmp_path):
    fetch()
    archives = {f"{split}.zip": make_zip(mirrored(members, split)) for split in NUM}
    fetch(num_images=None, mirror=mirror_folder(archives))
    assert sorted(path.name for path in (tmp_path / "coco").iterdir()) == [
        ANNOTATIONS,
        "source.json",
        "train2017.zip",
        "val2017.zip",
    ]
    assert fetch().name == "coco"
    assert not (tmp_path / "coco/train2017.zip").exists()
