"""Our reader of COCO's annotations against pycocotools."""

import json
from pathlib import Path

import pytest

from seesay.captioning.data.coco import read_coco_records
from seesay.sources.members import RawFiles

CAPTIONS = {
    "train2017": {11: ["A dog.", "two\rlines\u2028of it", "A dog."], 4: ["a ||| b", ""], 8: ["  spaces  "]},
    "val2017": {2: ["café ☺ \U0001f436"], 30: ["One", "Two", "Three"]},
}


def write_annotations(folder: Path) -> RawFiles:
    """Both annotation files, captions of different images in turns, and a file for each image."""
    members = {}
    for number, (name, captions) in enumerate(CAPTIONS.items()):
        images = [
            {"id": image_id, "file_name": f"{image_id:012}.jpg", "height": 1, "width": 1} for image_id in captions
        ]
        pairs = [(image_id, text) for image_id, texts in captions.items() for text in texts]
        pairs.sort(key=lambda pair: len(pair[1]))
        annotations = [
            {"id": 1000 * number + position, "image_id": image_id, "caption": text}
            for position, (image_id, text) in enumerate(pairs)
        ]
        path = folder / f"captions_{name}.json"
        path.write_text(json.dumps({"info": {}, "licenses": [], "images": images, "annotations": annotations}))
        members[path.name] = ("", path.name)
        for image in images:
            member = f"{name}/{image['file_name']}"
            members[member] = ("", member)
    return RawFiles(folder, members)


def test_images_and_captions_are_those_that_pycocotools_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pip install pycocotools")
    found = read_coco_records(write_annotations(tmp_path))
    assert (found.missing_images, found.without_captions) == ((), ())
    for name, split in (("train2017", "train"), ("val2017", "test")):
        theirs = coco.COCO(str(tmp_path / f"captions_{name}.json"))
        ours = {image.image_id: image for image in found.images if image.split == split}
        assert sorted(ours) == sorted(theirs.getImgIds())
        for image_id, image in ours.items():
            assert image.file_name == f"{name}/{theirs.loadImgs(image_id)[0]['file_name']}"
            entries = theirs.loadAnns(theirs.getAnnIds(imgIds=[image_id]))
            assert list(image.captions) == [entry["caption"] for entry in entries]
    capsys.readouterr()  # pycocotools says what it does
