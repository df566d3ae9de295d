"""The complete params.yaml: its sections, and the checks that each name refers to an existing entry that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seesay.core.errors import InputError, did_you_mean
from seesay.core.settings import PARAMS_FILE, CellName, NaturalInt, Settings, read_yaml, validate
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner, CaptionerTraining, FinetunedEncoder, Greedy
from seesay.params.classification import Classifier
from seesay.params.datasets import (
    CaptionDataset,
    CaptionSource,
    Features,
    ImageDataset,
    ImageSource,
    Vocabulary,
    Weights,
)
from seesay.params.results import Comparison, EncoderMaps, Evaluation, Release, Report, Tracking
from seesay.params.training import FINETUNED, SCRATCH, WEIGHTS, Runtime, name_in


class Params(Settings):
    """All sections. A section that a workspace does not use is present but empty: DVC has no optional sections."""

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
    weights: dict[CellName, Weights]
    features: dict[CellName, Features]
    captioners: dict[CellName, Captioner]
    finetuned: dict[CellName, FinetunedEncoder]
    evaluation: Evaluation
    encoder_maps: EncoderMaps
    comparison: Comparison
    report: Report
    release: Release


Misfits = Iterator[tuple[str, str, str]]
"""Names that refer to no entry or to an entry that does not fit, as (dotted key, value, expected value).

Only the first misfit is reported, so a later check may rely on the earlier checks having passed.
"""

_EMPTY = "empty"
_WITH_EMPTY_FOLDERS = (
    "autoencoders", "weights", "caption_sources", "caption_datasets", "vocabularies", "features", "captioners",
    "finetuned",
)  # fmt: skip
"""The name of the empty folders that the stage `placeholder` makes, and the sections in whose folders it makes them."""


def load_params(root: Path) -> Params:
    """Read and check all of params.yaml.

    Raises `InputError`. It names every invalid key, or, where all keys are valid, the first name that does not fit.
    """
    path = root / PARAMS_FILE
    params: Params = validate(read_yaml(path), Params, where=str(path))
    for key, value, expected in misfits(params):
        raise InputError(f"{path}: {key}: got {value!r}: expected {expected}")
    return params


def misfits(params: Params) -> Misfits:
    yield from _reserved_names(params)
    for name, dataset in params.image_datasets.items():
        key = f"image_datasets.{name}.source"
        yield from _one_of(key, dataset.source, "image_sources", params.image_sources)
        source = params.image_sources[dataset.source]
        if dataset.subset is None and source.kind != "image_folder":
            yield key, dataset.source, f"a source of kind image_folder without subset; its kind is {source.kind}"
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
    for name, finetuned in params.finetuned.items():
        yield from _misfits_of_finetuned(name, finetuned, params)
    for cell in params.comparison.overfitting_study:
        yield from _one_of("comparison.overfitting_study", cell, "classifiers", params.classifiers)
    for kind in ("classifiers", "captioners", "autoencoders"):
        for cell in getattr(params.release, kind):
            yield from _one_of(f"release.{kind}", cell, kind, getattr(params, kind))
    for cell in params.release.captioners:
        decoding = params.captioners[cell].decoding
        if not isinstance(decoding, Greedy) and decoding.rerank is not None:
            expected = "none in a released captioner: a package has no training captions to count words in"
            yield f"captioners.{cell}.decoding.rerank", decoding.rerank, expected


def _one_of(key: str, value: str, section: str, cells: Mapping[str, object]) -> Misfits:
    if value not in cells:
        yield key, value, f"an entry of {section}: {', '.join(cells) or '(none)'}{did_you_mean(value, cells)}"


def _referred(key: str, reference: str, params: Params) -> Misfits:
    """Check that a reference has an entry. The settings themselves have already checked its section."""
    section, _, name = reference.partition("/")
    cells = {} if section == SCRATCH else getattr(params, section)
    if section != SCRATCH and name not in cells:
        listed = [f"{section}/{cell}" for cell in cells]
        expected = f"an entry of {section}: {', '.join(listed) or '(none)'}{did_you_mean(reference, listed)}"
        yield key, reference, expected


def _reserved_names(params: Params) -> Misfits:
    for section in _WITH_EMPTY_FOLDERS:
        if _EMPTY in getattr(params, section):
            yield f"{section}.{_EMPTY}", _EMPTY, "another name: the stage placeholder makes an empty folder with it"


def _misfits_of_classifier(name: str, classifier: Classifier, params: Params) -> Misfits:
    yield from _one_of(f"classifiers.{name}.dataset", classifier.dataset, "image_datasets", params.image_datasets)
    key, parent = f"classifiers.{name}.start", classifier.parent
    yield from _referred(key, classifier.start, params)
    if classifier.weights is not None:
        network = classifier.architecture.arguments.get("network")
        wanted = params.weights[classifier.weights].architecture
        if network != wanted:
            where = f"classifiers.{name}.architecture.network"
            yield where, str(network), f"{wanted}, as weights.{classifier.weights} says"
    if parent is None:
        return
    theirs = params.classifiers[parent].dataset
    if theirs != classifier.dataset:
        yield key, classifier.start, f"a classifier of {classifier.dataset}; this one is of {theirs}"
    parents = {cell: () if one.parent is None else (one.parent,) for cell, one in params.classifiers.items()}
    yield from _endless_line(name, "classifiers", key, parents)


def _misfits_of_autoencoder(name: str, autoencoder: Autoencoder, params: Params) -> Misfits:
    key, parent = f"autoencoders.{name}", autoencoder.parent
    yield from _one_of(f"{key}.dataset", autoencoder.dataset, "image_datasets", params.image_datasets)
    yield from _referred(f"{key}.start", autoencoder.start, params)
    if parent is None:
        return
    classifier = params.classifiers[parent]
    if classifier.dataset != autoencoder.dataset:
        expected = f"a classifier of {autoencoder.dataset}; this one is of {classifier.dataset}"
        yield f"{key}.start", autoencoder.start, expected
    backbone = autoencoder.architecture.arguments.get("backbone")
    theirs = {"name": classifier.architecture.name, **classifier.architecture.arguments}
    if backbone != theirs:
        yield f"{key}.architecture.backbone", str(backbone), f"classifiers.{parent}.architecture: {theirs}"


def _endless_line(name: str, section: str, key: str, parents: Mapping[str, Sequence[str]]) -> Misfits:
    """Check that following `start` from `name` does not lead back to `name`."""
    lines, seen = [[name]], {name}
    for line in lines:
        for parent in parents.get(line[-1], ()):
            if parent == name:
                expected = f"an acyclic chain of {section}; got {' from '.join([*line, parent])}"
                yield key, ", ".join(f"{section}/{one}" for one in parents[name]), expected
                return
            if parent not in seen:
                seen.add(parent)
                lines.append([*line, parent])


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
        expected = "none: this source has a val split of its own" if has_val else "a number: this source has no val"
        yield f"caption_datasets.{name}.val_fraction", str(captions.val_fraction), expected


def _misfits_of_vocabulary(name: str, vocabulary: Vocabulary, params: Params) -> Misfits:
    for dataset in vocabulary.datasets:
        yield from _one_of(f"vocabularies.{name}.datasets", dataset, "caption_datasets", params.caption_datasets)


def _misfits_of_features(name: str, features: Features, params: Params) -> Misfits:
    key = f"features.{name}"
    yield from _one_of(f"{key}.dataset", features.dataset, "caption_datasets", params.caption_datasets)
    yield from _referred(f"{key}.encoder", features.encoder, params)


def _misfits_of_captioner(name: str, learning: CaptionerTraining, params: Params) -> Misfits:
    key = f"captioners.{name}.learning"
    for dataset in learning.datasets:
        yield from _one_of(f"{key}.datasets", dataset, "caption_datasets", params.caption_datasets)
    yield from _one_of(f"{key}.vocabulary", learning.vocabulary, "vocabularies", params.vocabularies)
    for features, dataset in learning.dataset_of_features.items():
        yield from _one_of(f"{key}.features", features, "features", params.features)
        seen = params.features[features].dataset
        if seen != dataset:
            yield f"{key}.features", features, f"features of dataset {dataset}; these are of {seen}"
    if not learning.is_ensemble:
        yield from _features_unlike(f"{key}.features", learning.features, params)
    for start in learning.start:
        yield from _referred(f"{key}.start", start, params)
    parents = {cell: one.learning.parents for cell, one in params.captioners.items()}
    yield from _endless_line(name, "captioners", f"{key}.start", parents)
    for parent in learning.parents:
        yield from _unlike_parent(key, learning, parent, params)


def _unlike_parent(key: str, learning: CaptionerTraining, parent: str, params: Params) -> Misfits:
    before = params.captioners[parent].learning
    why = f"as captioners.{parent}, which it starts from"
    if before.vocabulary != learning.vocabulary:
        yield f"{key}.vocabulary", learning.vocabulary, f"{before.vocabulary}, {why}"
    if learning.is_ensemble:
        if before.datasets[0] != learning.datasets[0]:
            yield f"{key}.datasets", learning.datasets[0], f"{before.datasets[0]}, {why}"
        for features in before.features if before.is_ensemble else before.features[:1]:
            if features not in learning.features:
                yield f"{key}.features", ", ".join(learning.features), f"{features} among them, {why}"
    elif before.architecture != learning.architecture:
        expected = f"{before.architecture.model_dump()}, {why}"
        yield f"{key}.architecture", str(learning.architecture.model_dump()), expected


def _features_unlike(key: str, names: Sequence[str], params: Params) -> Misfits:
    """Check that all features have the same meaning. Otherwise one captioner cannot learn from all of them."""
    first = params.features[names[0]]
    for name in names[1:]:
        other = params.features[name]
        for part in ("encoder", "image_size", "resize_size", "grid_size", "num_components"):
            wanted, got = getattr(first, part), getattr(other, part)
            if wanted != got:
                yield key, name, f"features like {names[0]}: {part} {wanted}; these have {got}"
        if other.num_components is not None:
            yield key, name, "features without num_components: each dataset has principal components of its own"


def _misfits_of_finetuned(name: str, finetuned: FinetunedEncoder, params: Params) -> Misfits:
    key, captioner = f"finetuned.{name}", finetuned.captioner
    yield from _one_of(f"{key}.captioner", captioner, "captioners", params.captioners)
    learning = params.captioners[captioner].learning
    features = params.features[learning.features[0]]
    for part, wanted in (
        ("dataset", learning.datasets[0]),
        ("vocabulary", learning.vocabulary),
        ("features", learning.features[0]),
    ):
        if wanted != getattr(finetuned, part):
            yield f"{key}.{part}", getattr(finetuned, part), f"{wanted}, as captioners.{captioner} says"
    if features.num_components is not None:
        yield f"{key}.features", finetuned.features, "features without num_components, to train their encoder"
    ancestors = [captioner]
    for parent in ancestors:  # so that no encoder depends on itself
        before = params.captioners[parent].learning
        for seen in before.features:
            if name_in(FINETUNED, params.features[seen].encoder) is not None:
                expected = f"a captioner without fine-tuned features; captioners.{parent} has {seen}"
                yield f"{key}.captioner", captioner, expected
        ancestors += [one for one in before.parents if one not in ancestors]
    if features.encoder != finetuned.encoder:
        yield f"{key}.encoder", finetuned.encoder, f"{features.encoder}, as features.{learning.features[0]} says"
    weights = name_in(WEIGHTS, features.encoder)
    if weights is not None and params.weights[weights].archive is None:
        yield f"{key}.encoder", finetuned.encoder, "an encoder with weights: this one's filters are fixed"
