import io
import json
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seesay.captioning.data.records import (
    CaptionRecord,
    CaptionRecords,
    collect_records,
    open_caption_images,
    read_caption_records,
    write_caption_records,
)
from seesay.sources.provenance import SourceFile, SourceNote
from seesay.core.errors import InputError
from seesay.core.paths import Paths

SOURCE = SourceNote("toy", (SourceFile("a.zip", "http://example.org/a.zip", "0" * 64, 3, "md5:" + "0" * 32, True),))


def record(image_id: int, split: str, *, archive: str = "images.zip") -> CaptionRecord:
    return CaptionRecord(
        image_id, f"x/{image_id}.png", archive, split, (f"picture {image_id}",), 4, 3, f"{image_id:064d}"
    )


def dataset() -> CaptionRecords:
    return collect_records("toy", [record(3, "test"), record(2, "train"), record(9, "val"), record(1, "train")], SOURCE)


def picture(grey: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 3), grey).save(content, "PNG")
    return content.getvalue()


def lay_out_images(root: Path) -> Paths:
    paths = Paths(root)
    folder = paths.raw_captions("toy")
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for image_id in (1, 2, 3, 9):
            archive.writestr(f"x/{image_id}.png", picture(image_id))
    return paths


def test_records_are_in_order_of_split_then_image_id() -> None:
    captions = dataset()
    assert [r.image_id for r in captions.records] == [1, 2, 9, 3]
    assert [r.image_id for r in captions.of("train")] == [1, 2]
    assert (captions.rows("train"), captions.rows("val"), captions.rows("test")) == ([0, 1], [2], [3])


def test_what_is_written_is_read_back_with_its_source(tmp_path: Path) -> None:
    write_caption_records(tmp_path / "toy", dataset())
    captions = read_caption_records(tmp_path / "toy")
    assert captions == dataset()
    assert captions.source.substitutes == ("a.zip",)


def test_the_digest_changes_with_a_caption_a_split_and_a_picture() -> None:
    first, *rest = dataset().records
    for other in (replace(first, captions=("x",)), replace(first, split="val"), replace(first, sha256="f" * 64)):
        assert collect_records("toy", [other, *rest], SOURCE).digest != dataset().digest


def test_edited_records_are_refused(tmp_path: Path) -> None:
    write_caption_records(tmp_path / "toy", dataset())
    path = tmp_path / "toy/records.json"
    values = json.loads(path.read_text())
    values[0]["captions"] = ["something else"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"records\.json: its digest"):
        read_caption_records(tmp_path / "toy")
    del values[0]["split"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="record 0: expected the keys"):
        read_caption_records(tmp_path / "toy")


def test_missing_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: no such file"):
        read_caption_records(tmp_path / "toy")


def test_images_come_as_rgb_by_row_also_in_threads_and_after_pickling(tmp_path: Path) -> None:
    images = open_caption_images(dataset(), lay_out_images(tmp_path))
    expected = [(1, 1, 1), (2, 2, 2), (9, 9, 9), (3, 3, 3)]
    assert len(images) == 4
    assert [image.getpixel((0, 0)) for image in images] == expected
    with ThreadPoolExecutor(4) as pool:
        assert [image.getpixel((0, 0)) for image in pool.map(images.__getitem__, [0, 1, 2, 3] * 5)] == expected * 5
    sent = pickle.loads(pickle.dumps(images))
    assert sent[2].getpixel((0, 0)) == (9, 9, 9)


def test_loose_images_are_read_from_the_raw_folder(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    (paths.raw_captions("toy") / "x").mkdir(parents=True)
    (paths.raw_captions("toy") / "x/5.png").write_bytes(picture(5))
    captions = collect_records("toy", [record(5, "train", archive="")], SOURCE)
    assert open_caption_images(captions, paths)[0].getpixel((0, 0)) == (5, 5, 5)


def test_a_bad_image_names_its_archive_and_member(tmp_path: Path) -> None:
    paths = lay_out_images(tmp_path)
    with zipfile.ZipFile(paths.raw_captions("toy") / "images.zip", "w") as archive:
        archive.writestr("x/1.png", picture(1)[:40])
    images = open_caption_images(dataset(), paths)
    with pytest.raises(InputError, match=r"images\.zip: x/1\.png: not a decodable image"):
        images[0]
    with pytest.raises(InputError, match=r"images\.zip: x/2\.png: no such member"):
        images[1]
