"""The file of predicted captions: COCO's results format, one list per set of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from seesay.captioning.data.records import CaptionRecords
from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json

SPLIT_OF_SET = {"val": "val", "test": "test", "test_shuffled": "test", "nearest_neighbour": "test"}
"""The sets, and the split of the images of each. `test_shuffled` is captioned from another test image's features;
`nearest_neighbour` has human captions of the nearest training images."""


class Alternative(TypedDict):
    """A caption that decoding returned for an image, and its log-probability."""

    caption: str
    log_probability: float


class Prediction(TypedDict):
    """One caption of one image; "" where the captioner ended at once, which scores 0.

    `alternatives`, if present, are all captions that decoding returned, best first: the first is the caption itself.
    """

    image_id: int
    caption: str
    alternatives: NotRequired[list[Alternative]]


Predictions = Mapping[str, Sequence[Prediction]]


def write_caption_predictions(path: Path, predictions: Predictions) -> None:
    """Write the sets of predictions, each ordered by image id."""
    assert set(predictions) == set(SPLIT_OF_SET), sorted(predictions)
    ordered = {
        name: sorted(results, key=lambda prediction: prediction["image_id"]) for name, results in predictions.items()
    }
    write_json(path, ordered)


def read_caption_predictions(path: Path, captions: CaptionRecords) -> dict[str, list[Prediction]]:
    """Read the predictions in `path`, each set in the order of the dataset's records.

    Raises `InputError` naming the set and the image for an image that is missing, unknown or repeated, has no caption,
    or has alternatives of which the first is not the caption.
    """
    content = read_json(path)
    if not isinstance(content, Mapping) or set(content) != set(SPLIT_OF_SET):
        raise InputError(f"{path}: expected an object with the lists {', '.join(SPLIT_OF_SET)}")
    return {
        name: _checked(content[name], [record.image_id for record in captions.of(split)], f"{path}: {name}")
        for name, split in SPLIT_OF_SET.items()
    }


def _checked(results: object, image_ids: Sequence[int], where: str) -> list[Prediction]:
    if not isinstance(results, list) or not results:
        raise InputError(f"{where}: expected a list with one caption for each of {len(image_ids)} images, got none")
    checked: dict[int, Prediction] = {}
    known = set(image_ids)
    for position, entry in enumerate(results):
        if not isinstance(entry, Mapping) or type(entry.get("image_id")) is not int:
            raise InputError(f"{where}: entry {position}: expected {{image_id, caption}}, got {str(entry)[:80]}")
        image_id, caption = entry["image_id"], entry.get("caption")
        if not isinstance(caption, str):
            raise InputError(f"{where}: image {image_id}: caption: got {caption!r}: expected text")
        if image_id not in known:
            raise InputError(f"{where}: image {image_id} is not in this split of the dataset")
        if image_id in checked:
            raise InputError(f"{where}: image {image_id} has two captions, expected one")
        checked[image_id] = {"image_id": image_id, "caption": caption}
        if "alternatives" in entry:
            checked[image_id]["alternatives"] = _alternatives(entry, f"{where}: image {image_id}: alternatives")
    missing = [image_id for image_id in image_ids if image_id not in checked]
    if missing:
        listed = ", ".join(map(str, missing[:5]))
        raise InputError(f"{where}: {len(missing)} of {len(image_ids)} images have no caption: {listed}")
    return [checked[image_id] for image_id in image_ids]


def _alternatives(entry: Mapping[str, Any], where: str) -> list[Alternative]:
    given = entry["alternatives"]
    if not isinstance(given, list) or not given:
        raise InputError(f"{where}: got {str(given)[:80]}: expected a list of {{caption, log_probability}}")
    alternatives: list[Alternative] = []
    for position, one in enumerate(given):
        caption, value = (one.get("caption"), one.get("log_probability")) if isinstance(one, Mapping) else (None, None)
        if not isinstance(caption, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where}: entry {position}: got {str(one)[:80]}: expected {{caption, log_probability}}")
        alternatives.append({"caption": caption, "log_probability": float(value)})
    if alternatives[0]["caption"] != entry["caption"]:
        raise InputError(
            f"{where}: entry 0: got {alternatives[0]['caption']!r}: expected the caption, {entry['caption']!r}"
        )
    return alternatives
