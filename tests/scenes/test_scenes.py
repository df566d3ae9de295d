"""Generated scenes: deterministic, in the official layouts, with captions that say what is drawn."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seesay.images.prepare import prepare_images
from seesay.params.datasets import ImageDataset, ImageLimits, ScenesCaptionSource, ScenesImageSource
from seesay.scenes.caption_scenes import COLOURS, Thing, draw_scene, relation, write_captions
from seesay.scenes.class_scenes import WNIDS, draw_class_scene
from seesay.scenes.drawing import SHAPES
from seesay.sources.fetch import fetch_caption_source, fetch_image_source


def fetch_images(folder: Path, *, seed: int = 0, num_train: int = 3) -> bytes:
    source = ScenesImageSource(kind="scenes", seed=seed, num_train_per_class=num_train, num_val_per_class=1)
    note = fetch_image_source(source, folder, mirror=None, scratch=folder)
    assert (note.files[0].url, note.substitutes) == ("generated:scenes", ())
    return (folder / "scenes.zip").read_bytes()


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_images(tmp_path):
    first = fetch_images(tmp_path / "a")
    assert fetch_images(tmp_path / "b") == first
    assert fetch_images(tmp_path / "c", seed=1) != first


def test_more_training_images_leave_the_earlier_ones_as_they_are(tmp_path):
    archives = [zipfile.ZipFile(io.BytesIO(fetch_images(tmp_path / str(count), num_train=count))) for count in (2, 3)]
    name = "scenes/train/s00000004/images/s00000004_1.JPEG"
    assert archives[0].read(name) == archives[1].read(name)


def test_class_scenes_are_read_by_the_reader_of_tiny_imagenet(tmp_path):
    fetch_images(tmp_path / "scenes")
    dataset = ImageDataset(
        source="scenes",
        subset="scenes10",
        image_size=64,
        num_train_per_class=2,
        num_val_per_class=1,
        split_seed=0,
        limits=ImageLimits(max_undecodable=0, max_left_out_per_class=0),
    )
    packed, report = prepare_images(dataset, tmp_path / "scenes", name="scenes10", scratch=tmp_path / "scratch")
    assert report["num_images"] == {"train": 20, "val": 10, "test": 10}
    assert (report["modes"], report["sizes"]) == ({"RGB": 40}, {"64x64": 40})
    assert [image_class.label for image_class in packed.classes] == sorted(SHAPES)
    assert len(WNIDS) == 10


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_thing_is_drawn_differently_each_time(name):
    images = [np.asarray(draw_class_scene(name, rng=np.random.default_rng(seed))) for seed in (0, 1)]
    assert all(image.shape == (64, 64, 3) and image.std() > 10 for image in images)
    assert not np.array_equal(*images)


def test_caption_scenes_are_coco_archives_with_five_captions_an_image(tmp_path):
    source = ScenesCaptionSource(kind="scenes", seed=0, num_train=6, num_val=2)
    for name in ("a", "b"):
        note = fetch_caption_source(source, tmp_path / name, mirror=None, scratch=tmp_path)
        names = [file.name for file in note.files]
    assert names == ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    with zipfile.ZipFile(tmp_path / "a" / names[0]) as archive:
        content = {
            split: json.loads(archive.read(f"annotations/captions_{split}.json")) for split in ("train2017", "val2017")
        }
    for split, count in (("train2017", 6), ("val2017", 2)):
        assert len(content[split]["images"]) == count
        for image in content[split]["images"]:
            captions = [a["caption"] for a in content[split]["annotations"] if a["image_id"] == image["id"]]
            assert len(set(captions)) == 5
            with zipfile.ZipFile(tmp_path / "a" / f"{split}.zip") as archive:
                found = Image.open(io.BytesIO(archive.read(f"{split}/{image['file_name']}")))
            assert found.size == (image["width"], image["height"])
    ids = [image["id"] for split in content.values() for image in split["images"]]
    assert ids == list(range(1, 9))


def test_relations_go_by_the_axis_of_the_larger_distance():
    def thing(x: float, y: float) -> Thing:
        return Thing("cat", "red", "small", x, y)

    assert relation(thing(10, 50), thing(90, 40)) == "to the left of"
    assert relation(thing(90, 40), thing(10, 50)) == "to the right of"
    assert relation(thing(50, 10), thing(40, 90)) == "above"
    assert relation(thing(40, 90), thing(50, 10)) == "below"


def test_captions_speak_only_of_what_is_there_with_the_right_article():
    things = [Thing("umbrella", "orange", "large", 20, 20), Thing("cat", "blue", "small", 90, 20)]
    captions = [
        caption for seed in range(20) for caption in write_captions(things, "at night", rng=np.random.default_rng(seed))
    ]
    words = {word.strip(".,:").lower() for caption in captions for word in caption.split()}
    assert {"umbrella", "orange", "cat", "blue", "large", "small", "left", "right", "night", "two"} <= words
    assert not words & ((set(SHAPES) | set(COLOURS)) - {"umbrella", "orange", "cat", "blue"})
    assert not any("a orange" in caption or "a umbrella" in caption or "an large" in caption for caption in captions)
    assert all(caption[0].isupper() and caption.endswith(".") for caption in captions)
    assert not any("above" in caption or "below" in caption for caption in captions)


def test_things_of_a_scene_differ_in_kind_and_colour():
    for seed in range(30):
        image, captions = draw_scene(rng=np.random.default_rng(seed))
        assert image.size == (128, 128)
        assert len(captions) == 5


def test_scenes_that_do_not_fit_on_the_disk_are_one_error_and_no_archive(small_disk):
    with pytest.raises(OSError, match=r"scenes\.zip"):
        fetch_images(small_disk / "scenes", num_train=20)
    assert list((small_disk / "scenes").iterdir()) == []
