"""The whole of params.yaml, and what its sections must agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from seesay.errors import InputError
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner, CaptionerTraining
from seesay.params.datasets import (
    CaptionDataset,
    CaptionSource,
    Encoder,
    Features,
    ImageDataset,
    ImageSource,
    Vocabulary,
)
from seesay.params.experiments import NONE, Classifier
from seesay.params.reading import PARAMS_FILE, CellName, NaturalInt, Settings, read_yaml, validate
from seesay.params.results import Comparison, Evaluation, Release, Report, Tracking
from seesay.params.training import Runtime


class Params(Settings):
    seed: NaturalInt
    runtime: Runtime
    tracking: Tracking
    image_sources: dict[CellName, ImageSource]
    image_datasets: dict[CellName, ImageDataset]
    classifiers: dict[CellName, Classifier]
    autoencoders: dict[CellName, Autoencoder]
    caption_sources: dict[CellName, CaptionSource]
    caption_datasets: dict[CellName, CaptionDataset]
    vocabularies: dict[CellName, Vocabulary]
    encoders: dict[CellName, Encoder]
    features: dict[CellName, Features]
    captioners: dict[CellName, Captioner]
    evaluation: Evaluation
    comparison: Comparison
    report: Report
    release: Release


def load_params(root: Path) -> Params:
    """All of params.yaml; raises `InputError` that names every wrong key, or the first two keys that do not fit."""
    path = root / PARAMS_FILE
    params: Params = validate(read_yaml(path), Params, where=str(path))
    for key, value, expected in _misfits(params):
        raise InputError(f"{path}: {key}: got {value!r}: expected {expected}")
    return params


def _misfits_of_parent(
    name: str, classifier: Classifier, classifiers: Mapping[str, Classifier]
) -> Iterable[tuple[str, str, str]]:
    """What is wrong with the classifier that another one is built on, as `_misfits` says it."""
    key, parent = f"classifiers.{name}.built_on", classifier.built_on
    if parent == NONE:
        return
    if parent not in classifiers:
        yield key, parent, f"{NONE} or an entry of classifiers: {', '.join(classifiers)}"
    elif classifiers[parent].dataset != classifier.dataset:
        yield key, parent, f"a classifier of {classifier.dataset}; this one is of {classifiers[parent].dataset}"
    line = [name]
    while parent in classifiers and parent not in line:
        line.append(parent)
        parent = classifiers[parent].built_on
    if parent == name:
        yield key, classifier.built_on, f"a line of classifiers that has an end; got {' on '.join([*line, parent])}"


def _misfits_of_backbone(
    name: str, autoencoder: Autoencoder, classifiers: Mapping[str, Classifier]
) -> Iterable[tuple[str, str, str]]:
    """What is wrong with the classifier whose backbone an autoencoder takes, as `_misfits` says it."""
    key, parent = f"autoencoders.{name}", autoencoder.built_on
    if parent == NONE:
        return
    if parent not in classifiers:
        yield f"{key}.built_on", parent, f"{NONE} or an entry of classifiers: {', '.join(classifiers)}"
        return
    classifier = classifiers[parent]
    if classifier.dataset != autoencoder.dataset:
        yield f"{key}.built_on", parent, f"a classifier of {autoencoder.dataset}; this one is of {classifier.dataset}"
    backbone = autoencoder.architecture.arguments.get("backbone")
    theirs = {"name": classifier.architecture.name, **classifier.architecture.arguments}
    if backbone != theirs:
        yield f"{key}.architecture.backbone", str(backbone), f"what classifiers.{parent}.architecture is: {theirs}"


def _misfits_of_captioner(key: str, learning: CaptionerTraining, params: Params) -> Iterable[tuple[str, str, str]]:
    """What is wrong with the names in a captioner's `learning`, as `_misfits` says it."""
    sections: list[tuple[str, str, str, Mapping[str, object]]] = [
        ("dataset", learning.dataset, "caption_datasets", params.caption_datasets),
        ("vocabulary", learning.vocabulary, "vocabularies", params.vocabularies),
        ("features", learning.features, "features", params.features),
    ]
    if learning.also_dataset != NONE:
        sections.append(("also_dataset", learning.also_dataset, "caption_datasets", params.caption_datasets))
        sections.append(("also_features", learning.also_features, "features", params.features))
    if learning.built_on != NONE:
        sections.append(("built_on", learning.built_on, "captioners", params.captioners))
    for name, value, section, cells in sections:
        if value not in cells:
            yield f"{key}.{name}", value, f"an entry of {section}: {', '.join(cells) or '(none)'}"
            return
    pairs = [("features", learning.features, learning.dataset)]
    if learning.also_dataset != NONE:
        pairs.append(("also_features", learning.also_features, learning.also_dataset))
        if learning.also_dataset == learning.dataset:
            yield f"{key}.also_dataset", learning.also_dataset, "another dataset than dataset, or none"
    for name, value, dataset in pairs:
        seen = params.features[value].dataset
        if seen != dataset:
            yield f"{key}.{name}", value, f"features of dataset {dataset}; these are of {seen}"
    parent = learning.built_on
    if parent == NONE:
        return
    before = params.captioners[parent].learning
    for name in ("vocabulary", "architecture"):
        if getattr(before, name) != getattr(learning, name):
            yield f"{key}.{name}", str(getattr(learning, name)), f"what captioners.{parent} has, which it is built on"
    line = [key.split(".")[1]]
    while parent != NONE and parent not in line and parent in params.captioners:
        line.append(parent)
        parent = params.captioners[parent].learning.built_on
    if parent == line[0]:
        yield (
            f"{key}.built_on",
            learning.built_on,
            f"a line of captioners that has an end; got {' on '.join([*line, parent])}",
        )


def _misfits(params: Params) -> Iterable[tuple[str, str, str]]:
    """(key, value, what was expected) of each name that points to nothing or to something that does not fit."""

    def one_of(key: str, value: str, section: str, cells: Mapping[str, object]) -> Iterable[tuple[str, str, str]]:
        if value not in cells:
            yield key, value, f"an entry of {section}: {', '.join(cells) or '(none)'}"

    for name, dataset in params.image_datasets.items():
        yield from one_of(f"image_datasets.{name}.source", dataset.source, "image_sources", params.image_sources)
    for name, classifier in params.classifiers.items():
        yield from one_of(f"classifiers.{name}.dataset", classifier.dataset, "image_datasets", params.image_datasets)
        if classifier.initial_weights != NONE:
            key = f"classifiers.{name}.initial_weights"
            yield from one_of(key, classifier.initial_weights, "encoders", params.encoders)
        yield from _misfits_of_parent(name, classifier, params.classifiers)
    for name, autoencoder in params.autoencoders.items():
        yield from one_of(f"autoencoders.{name}.dataset", autoencoder.dataset, "image_datasets", params.image_datasets)
        yield from _misfits_of_backbone(name, autoencoder, params.classifiers)
    for name, captions in params.caption_datasets.items():
        if name not in params.caption_sources:
            yield (
                "caption_datasets",
                name,
                f"the name of an entry of caption_sources: {', '.join(params.caption_sources)}",
            )
        has_val = params.caption_sources[name].kind == "flickr8k"
        if has_val != (captions.val_fraction is None):
            expected = "null: this source has a val split of its own" if has_val else "a number: this source has no val"
            yield f"caption_datasets.{name}.val_fraction", str(captions.val_fraction), expected
    for name, vocabulary in params.vocabularies.items():
        for key, dataset_name in (("dataset", vocabulary.dataset), ("also_dataset", vocabulary.also_dataset)):
            if (key, dataset_name) != ("also_dataset", NONE):
                yield from one_of(
                    f"vocabularies.{name}.{key}", dataset_name, "caption_datasets", params.caption_datasets
                )
    for name, features in params.features.items():
        yield from one_of(f"features.{name}.dataset", features.dataset, "caption_datasets", params.caption_datasets)
        if features.classifier != NONE:
            yield from one_of(f"features.{name}.classifier", features.classifier, "classifiers", params.classifiers)
        else:
            yield from one_of(f"features.{name}.encoder", features.encoder, "encoders", params.encoders)
            network = params.encoders[features.encoder].architecture
            if features.network != network:
                yield f"features.{name}.network", features.network, f"{network}, as encoders.{features.encoder} says"
    for name, captioner in params.captioners.items():
        yield from _misfits_of_captioner(f"captioners.{name}.learning", captioner.learning, params)
    for cell in params.comparison.overfitting_study:
        yield from one_of("comparison.overfitting_study", cell, "classifiers", params.classifiers)
    for kind in ("classifiers", "captioners", "autoencoders"):
        for cell in getattr(params.release, kind):
            yield from one_of(f"release.{kind}", cell, kind, getattr(params, kind))
