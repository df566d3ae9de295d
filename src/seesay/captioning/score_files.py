"""Scores of any captions in COCO's results format against any references in COCO's annotation format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seesay.captioning.data.tokenizer import TOKENIZER_VERSION, tokenize_all, tokenize_references
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.diversity import diversity, lengths
from seesay.captioning.metrics.image_scores import bootstrap_intervals, corpus_scores, score_images
from seesay.captioning.metrics.java import meteor_java, open_meteor, spice_command, spice_java
from seesay.core.errors import InputError
from seesay.core.files import read_json

_MAX_LISTED = 5  # image ids in a message
_MAX_SHOWN = 40  # characters of an id or value in a message

ImageId = int | str


@dataclass(frozen=True)
class FileScores:
    """Flat metrics of `num_images` captions, as fractions: CIDEr-D 1.0 is "100" in papers.

    `num_without_prediction` images of the references had no caption and were left out.
    """

    references: Path
    predictions: Path
    num_images: int
    num_without_prediction: int
    num_references: int
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "references": self.references.name,
            "predictions": self.predictions.name,
            "num_images": self.num_images,
            "num_without_prediction": self.num_without_prediction,
            "num_references": self.num_references,
            "tokenizer": TOKENIZER_VERSION,
            "metrics": dict(self.metrics),
        }

    def table(self) -> str:
        """Return text with a line per metric, its interval beside the value."""
        head = f"{self.predictions.name} against {self.references.name}: {self.num_images} images, "
        lines = [f"{head}{self.num_references} references"]
        if self.num_without_prediction:
            lines.append(f"{self.num_without_prediction} images of {self.references.name} are left out: no prediction")
        for name, value in self.metrics.items():
            if name.endswith(("_low", "_high")):
                continue
            line = f"  {name:<16}{value:>12.5f}"
            if f"{name}_low" in self.metrics:
                line += f"   {self.metrics[f'{name}_low']:.5f} to {self.metrics[f'{name}_high']:.5f}"
            if name == "cider_d" and self.num_images == 1:
                line += "   always 0 for one image: n-grams are weighted by how few of the images have them"
            lines.append(line)
        return "\n".join(lines)


def score_files(
    references: Path,
    predictions: Path,
    *,
    resamples: int | None,
    seed: int,
    with_meteor: bool,
    spice_dir: Path | None,
    only_predicted: bool = False,
) -> FileScores:
    """Score the results in `predictions`: BLEU-1..4, ROUGE-L, CIDEr-D, lengths and diversity.

    Every image of `references` must have a prediction, unless `only_predicted` leaves out those without, and every
    image that is scored a reference.
    `resamples` adds 95 % intervals from that many bootstrap resamples of the images, with `seed`. `with_meteor` adds
    `meteor_java` where METEOR is available; `spice_dir` adds `spice_java`, with SPICE's files in that folder. Raises
    `InputError` that names the file and the image if the files do not match or have another format.
    """
    captions = read_references(references)
    results = read_results(predictions, captions, references=references, only_predicted=only_predicted)
    command = None if spice_dir is None else spice_command(spice_dir)
    in_file = [image_id for image_id in captions if image_id in results]
    references_of = dict(zip(in_file, tokenize_references([captions[image_id] for image_id in in_file]), strict=True))
    tokens_of = dict(zip(in_file, tokenize_all([results[image_id] for image_id in in_file]), strict=True))
    silent = [image_id for image_id in in_file if not any(references_of[image_id])]
    if silent:
        raise InputError(
            f"{references}: annotations: {_listed(silent)} of {len(in_file)} images have no caption with a word"
        )
    image_ids = sorted(in_file, key=lambda image_id: (isinstance(image_id, str), image_id))
    image_references = [references_of[image_id] for image_id in image_ids]
    tokens = [tokens_of[image_id] for image_id in image_ids]
    images = score_images(tokens, image_references, CiderReferences(image_references))
    metrics = corpus_scores(images)
    if resamples is not None:
        metrics |= bootstrap_intervals(images, resamples=resamples, seed=seed)
    if with_meteor:
        with open_meteor() as meteor:
            if meteor is not None:
                metrics["meteor_java"], _ = meteor_java(tokens, image_references, process=meteor)
    if command is not None:
        texts = [[" ".join(reference) for reference in of_image] for of_image in image_references]
        metrics["spice_java"] = float(np.nanmean(spice_java([" ".join(t) for t in tokens], texts, command=command)))
    metrics |= {**lengths(tokens, image_references), **diversity(tokens)}
    num_references = sum(map(len, image_references))
    return FileScores(references, predictions, len(image_ids), len(captions) - len(image_ids), num_references, metrics)


def read_references(path: Path) -> dict[ImageId, list[str]]:
    """Read the captions of each image in an annotation file, an object with the lists `images` and `annotations`.

    An image may have none. Ids are whole numbers (1.0 is 1) or text.
    """
    content = read_json(path)
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise InputError(
            f"{path}: expected an object with the lists images and annotations, as in COCO's captions_*.json"
        )
    captions: dict[ImageId, list[str]] = {}
    for position, image in enumerate(content["images"]):
        image_id = _image_id(image, "id", f"{path}: images: entry {position}")
        if image_id in captions:
            raise InputError(f"{path}: images: image {_shown(image_id)} is listed twice")
        captions[image_id] = []
    if not captions:
        raise InputError(f"{path}: images: expected at least one image, got an empty list")
    for position, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations: entry {position}"
        image_id = _image_id(annotation, "image_id", where)
        if image_id not in captions:
            raise InputError(f"{where}: image {_shown(image_id)} is not among the file's images")
        captions[image_id].append(_caption(annotation, f"{where}: image {_shown(image_id)}"))
    return captions


def read_results(
    path: Path, captions: Mapping[ImageId, Sequence[str]], *, references: Path, only_predicted: bool = False
) -> dict[ImageId, str]:
    """Read the caption of each image of `captions` in a results file, a list of `{"image_id", "caption"}`.

    With `only_predicted` images of `captions` may be missing.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of {{image_id, caption}}, got {type(content).__name__}")
    if not content:
        raise InputError(f"{path}: expected a caption for each of {len(captions)} images, got an empty list")
    results: dict[ImageId, str] = {}
    for position, entry in enumerate(content):
        where = f"{path}: entry {position}"
        image_id = _image_id(entry, "image_id", where)
        if image_id not in captions:
            raise InputError(f"{where}: image {_shown(image_id)} is not in {references}")
        if image_id in results:
            raise InputError(f"{where}: image {_shown(image_id)} has two captions, expected one")
        results[image_id] = _caption(entry, f"{where}: image {_shown(image_id)}")
    missing = [image_id for image_id in captions if image_id not in results]
    if missing and not only_predicted:
        raise InputError(
            f"{path}: {_listed(missing)} of {len(captions)} images in {references} have no caption; "
            "`seesay score --images predicted` leaves them out"
        )
    return results


def _image_id(entry: object, key: str, where: str) -> ImageId:
    value = _get(entry, key, where)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where}: {key}: got {_shown(value)}: expected a whole number or text")
    return value


def _caption(entry: object, where: str) -> str:
    value = _get(entry, "caption", where)
    if not isinstance(value, str):
        raise InputError(f"{where}: caption: got {_shown(value)}: expected text")
    return value


def _get(entry: object, key: str, where: str) -> object:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: {key}: got {_shown(entry)}: expected an object with {key}")
    return entry.get(key)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _listed(image_ids: Sequence[ImageId]) -> str:
    more = ", ..." if len(image_ids) > _MAX_LISTED else ""
    return f"{len(image_ids)} (image {', '.join(map(_shown, image_ids[:_MAX_LISTED]))}{more})"
