"""What the sections of params.yaml must agree on: each name leads to an entry, and to one that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import CaptionerTraining
from seesay.params.datasets import CaptionDataset, Features, Vocabulary
from seesay.params.experiments import NONE, Classifier
from seesay.params.finetuning import FinetunedEncoder

if TYPE_CHECKING:
    from seesay.params.project import Params

Misfits = Iterator[tuple[str, str, str]]
"""(dotted key, its value, what was expected) of each name that points to nothing or to something that does not fit.

Later ones may rely on it that the earlier ones were none: the first is what a person is told.
"""


def misfits(params: Params) -> Misfits:
    yield from _reserved_names(params)
    for name, dataset in params.image_datasets.items():
        yield from _one_of(f"image_datasets.{name}.source", dataset.source, "image_sources", params.image_sources)
    for name, classifier in params.classifiers.items():
        yield from _misfits_of_classifier(name, classifier, params)
    for name, autoencoder in params.autoencoders.items():
        yield from _misfits_of_autoencoder(name, autoencoder, params)
    for name, captions in params.caption_datasets.items():
        yield from _misfits_of_captions(name, captions, params)
    for name, vocabulary in params.vocabularies.items():
        yield from _misfits_of_vocabulary(name, vocabulary, params)
    for name, features in params.features.items():
        yield from _misfits_of_features(name, features, params)
    for name, captioner in params.captioners.items():
        yield from _misfits_of_captioner(name, captioner.learning, params)
    for name, finetuned in params.finetuned_encoders.items():
        yield from _misfits_of_finetuned(name, finetuned, params)
    for cell in params.comparison.overfitting_study:
        yield from _one_of("comparison.overfitting_study", cell, "classifiers", params.classifiers)
    for kind in ("classifiers", "captioners", "autoencoders"):
        for cell in getattr(params.release, kind):
            yield from _one_of(f"release.{kind}", cell, kind, getattr(params, kind))


def _one_of(key: str, value: str, section: str, cells: Mapping[str, object]) -> Misfits:
    if value not in cells:
        yield key, value, f"an entry of {section}: {', '.join(cells) or '(none)'}"


def _reserved_names(params: Params) -> Misfits:
    """`none` is what a cell says that starts from nothing; the stage `none` makes the folders of this name."""
    for section in type(params).model_fields:
        cells = getattr(params, section)
        if isinstance(cells, Mapping) and NONE in cells:
            yield f"{section}.{NONE}", NONE, "another name: none stands for no entry"


def _misfits_of_classifier(name: str, classifier: Classifier, params: Params) -> Misfits:
    yield from _one_of(f"classifiers.{name}.dataset", classifier.dataset, "image_datasets", params.image_datasets)
    if classifier.initial_weights != NONE:
        key = f"classifiers.{name}.initial_weights"
        yield from _one_of(key, classifier.initial_weights, "encoders", params.encoders)
    key, parent = f"classifiers.{name}.built_on", classifier.built_on
    if parent == NONE:
        return
    if parent not in params.classifiers:
        yield key, parent, f"{NONE} or an entry of classifiers: {', '.join(params.classifiers)}"
    elif params.classifiers[parent].dataset != classifier.dataset:
        yield key, parent, f"a classifier of {classifier.dataset}; this one is of {params.classifiers[parent].dataset}"
    yield from _endless_line(name, "classifiers", key, {cell: one.built_on for cell, one in params.classifiers.items()})


def _misfits_of_autoencoder(name: str, autoencoder: Autoencoder, params: Params) -> Misfits:
    key, parent = f"autoencoders.{name}", autoencoder.built_on
    yield from _one_of(f"{key}.dataset", autoencoder.dataset, "image_datasets", params.image_datasets)
    if parent == NONE:
        return
    if parent not in params.classifiers:
        yield f"{key}.built_on", parent, f"{NONE} or an entry of classifiers: {', '.join(params.classifiers)}"
    classifier = params.classifiers[parent]
    if classifier.dataset != autoencoder.dataset:
        yield f"{key}.built_on", parent, f"a classifier of {autoencoder.dataset}; this one is of {classifier.dataset}"
    backbone = autoencoder.architecture.arguments.get("backbone")
    theirs = {"name": classifier.architecture.name, **classifier.architecture.arguments}
    if backbone != theirs:
        yield f"{key}.architecture.backbone", str(backbone), f"what classifiers.{parent}.architecture is: {theirs}"


def _endless_line(name: str, section: str, key: str, parents: Mapping[str, str]) -> Misfits:
    """Whether following `built_on` from `name` leads back to it."""
    line, parent = [name], parents[name]
    while parent in parents and parent not in line:
        line.append(parent)
        parent = parents[parent]
    if parent == name:
        yield key, parents[name], f"a line of {section} that has an end; got {' on '.join([*line, parent])}"


def _misfits_of_captions(name: str, captions: CaptionDataset, params: Params) -> Misfits:
    if name not in params.caption_sources:
        yield "caption_datasets", name, f"the name of an entry of caption_sources: {', '.join(params.caption_sources)}"
    if captions.karpathy_split is not None:
        return
    source = params.caption_sources[name]
    if source.kind == "coco_files" and source.test is None:
        yield (
            f"caption_datasets.{name}.karpathy_split",
            "None",
            f"a split file, or a test split in caption_sources.{name}",
        )
    has_val = source.kind == "flickr8k" or (source.kind == "coco_files" and source.val is not None)
    if has_val != (captions.val_fraction is None):
        expected = "null: this source has a val split of its own" if has_val else "a number: this source has no val"
        yield f"caption_datasets.{name}.val_fraction", str(captions.val_fraction), expected


def _misfits_of_vocabulary(name: str, vocabulary: Vocabulary, params: Params) -> Misfits:
    key = f"vocabularies.{name}"
    yield from _one_of(f"{key}.dataset", vocabulary.dataset, "caption_datasets", params.caption_datasets)
    if vocabulary.also_dataset != NONE:
        yield from _one_of(f"{key}.also_dataset", vocabulary.also_dataset, "caption_datasets", params.caption_datasets)


def _misfits_of_features(name: str, features: Features, params: Params) -> Misfits:
    key = f"features.{name}"
    yield from _one_of(f"{key}.dataset", features.dataset, "caption_datasets", params.caption_datasets)
    if features.classifier != NONE:
        yield from _one_of(f"{key}.classifier", features.classifier, "classifiers", params.classifiers)
        return
    if features.finetuned != NONE:
        yield from _one_of(f"{key}.finetuned", features.finetuned, "finetuned_encoders", params.finetuned_encoders)
        return
    yield from _one_of(f"{key}.encoder", features.encoder, "encoders", params.encoders)
    network = params.encoders[features.encoder].architecture
    if features.network != network:
        yield f"{key}.network", features.network, f"{network}, as encoders.{features.encoder} says"


def _misfits_of_captioner(name: str, learning: CaptionerTraining, params: Params) -> Misfits:
    key = f"captioners.{name}.learning"
    yield from _one_of(f"{key}.dataset", learning.dataset, "caption_datasets", params.caption_datasets)
    yield from _one_of(f"{key}.vocabulary", learning.vocabulary, "vocabularies", params.vocabularies)
    yield from _one_of(f"{key}.features", learning.features, "features", params.features)
    yield from _features_of(f"{key}.features", learning.features, learning.dataset, params)
    if learning.also_dataset != NONE:
        yield from _one_of(f"{key}.also_dataset", learning.also_dataset, "caption_datasets", params.caption_datasets)
        if learning.also_dataset == learning.dataset:
            yield f"{key}.also_dataset", learning.also_dataset, "another dataset than dataset, or none"
        yield from _one_of(f"{key}.also_features", learning.also_features, "features", params.features)
        yield from _features_of(f"{key}.also_features", learning.also_features, learning.also_dataset, params)
        yield from _features_unlike(f"{key}.also_features", learning, params)
    parent = learning.built_on
    if parent == NONE:
        return
    yield from _one_of(f"{key}.built_on", parent, "captioners", params.captioners)
    parents = {cell: captioner.learning.built_on for cell, captioner in params.captioners.items()}
    yield from _endless_line(name, "captioners", f"{key}.built_on", parents)
    before = params.captioners[parent].learning
    if before.vocabulary != learning.vocabulary:
        yield (
            f"{key}.vocabulary",
            learning.vocabulary,
            f"{before.vocabulary}, as captioners.{parent}, which it is built on",
        )
    if before.architecture != learning.architecture:
        expected = f"{before.architecture.model_dump()}, as captioners.{parent}, which it is built on"
        yield f"{key}.architecture", str(learning.architecture.model_dump()), expected


def _features_of(key: str, name: str, dataset: str, params: Params) -> Misfits:
    seen = params.features[name].dataset
    if seen != dataset:
        yield key, name, f"features of dataset {dataset}; these are of {seen}"


def _features_unlike(key: str, learning: CaptionerTraining, params: Params) -> Misfits:
    """Whether two datasets' features have different meanings: one captioner cannot learn from both then."""
    first, second = params.features[learning.features], params.features[learning.also_features]
    sizes = ("image_size", "resize_size", "grid_size", "num_components")
    for part in ("encoder", "classifier", "finetuned", "network", *sizes):
        wanted, got = getattr(first, part), getattr(second, part)
        if wanted != got:
            yield key, learning.also_features, f"features like {learning.features}: {part} {wanted}; these have {got}"
    if second.num_components is not None:
        expected = "features without num_components: each dataset has principal components of its own"
        yield key, learning.also_features, expected


def _misfits_of_finetuned(name: str, finetuned: FinetunedEncoder, params: Params) -> Misfits:
    key, captioner = f"finetuned_encoders.{name}", finetuned.captioner
    yield from _one_of(f"{key}.captioner", captioner, "captioners", params.captioners)
    learning = params.captioners[captioner].learning
    features = params.features[learning.features]
    for part in ("dataset", "vocabulary", "features"):
        if (wanted := getattr(learning, part)) != getattr(finetuned, part):
            yield f"{key}.{part}", getattr(finetuned, part), f"{wanted}, as captioners.{captioner} says"
    if features.num_components is not None:
        yield f"{key}.features", finetuned.features, "features without num_components: an encoder learns behind none"
    parent: str = captioner
    while parent != NONE:  # so that no encoder is made of itself
        before = params.captioners[parent].learning
        for seen in (before.features, before.also_features):
            if seen != NONE and params.features[seen].finetuned != NONE:
                expected = f"a captioner without fine-tuned features; captioners.{parent} has {seen}"
                yield f"{key}.captioner", captioner, expected
        parent = before.built_on
    for part in ("encoder", "classifier"):
        if (wanted := getattr(features, part)) != getattr(finetuned, part):
            yield f"{key}.{part}", getattr(finetuned, part), f"{wanted}, as features.{learning.features} says"
    if features.encoder != NONE and params.encoders[features.encoder].weights is None:
        yield f"{key}.encoder", finetuned.encoder, "an encoder with weights: this one's filters are fixed"
