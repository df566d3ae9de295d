"""From an experiment in a workspace to a bundle: the weights, and whatever else prediction needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seesay.arrays import read_arrays
from seesay.captioning.data.batches import references_of
from seesay.captioning.data.records import read_caption_records
from seesay.captioning.data.vocabulary import Vocabulary, read_vocabulary
from seesay.captioning.features.encoders import UNTRAINED_ENCODERS, find_origin
from seesay.captioning.features.origin import CLASSIFIER
from seesay.captioning.features.store import FeaturesIndex, read_index
from seesay.captioning.networks.registry import learned_from, restore_captioner
from seesay.classification.networks.published import load_published, preprocessing_of, remove_head
from seesay.core.errors import InputError, did_you_mean
from seesay.core.files import read_json
from seesay.core.paths import Paths, checked_name
from seesay.core.settings import read_section, read_yaml, validate
from seesay.images.packed import read_manifest
from seesay.images.pixels import Interpolation, transform_of
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner
from seesay.params.classification import Classifier
from seesay.params.training import CAPTIONERS, CLASSIFIERS
from seesay.serving.bundle import Bundle, ClassPart, Config, EncoderPart, TransformPart, VocabularyPart
from seesay.sources.provenance import SourceNote
from seesay.tracking.records import read_record
from seesay.tracking.registry import weights_behind
from seesay.training.checkpoint import Checkpoint, header_of, load_checkpoint

AUTOENCODERS = "autoencoders"
SECTIONS = (CLASSIFIERS, CAPTIONERS, AUTOENCODERS)
"""The sections of params.yaml whose experiments are models that can be used."""

TEMPERATURE = "calibration/temperature"


def trained_cells(root: Path) -> list[tuple[str, str]]:
    """Return (section, experiment) of every trained model in the workspace."""
    patterns = {CLASSIFIERS: "*/0.pt", CAPTIONERS: "*/captioner.pt", AUTOENCODERS: "*.pt"}
    return [
        (section, path.stem if section == AUTOENCODERS else path.parent.name)
        for section, pattern in patterns.items()
        for path in sorted((root / "models" / section).glob(pattern))
    ]


def find_cell(root: Path, name: str) -> tuple[str, str]:
    """Return section and experiment of `classifiers/resnet9`, or of `resnet9` where one section has it.

    Raises `InputError` for a name that no trained model, or more than one, has.
    """
    cells = trained_cells(root)
    found = [cell for cell in cells if name in (cell[1], "/".join(cell))]
    if len(found) == 1:
        return found[0]
    names = ["/".join(cell) for cell in found or cells]
    expected = f"expected one of {', '.join(names)}" if names else f"no model is trained in {root.absolute()}"
    hint = "" if found else did_you_mean(name, [*names, *(cell for _, cell in cells)])
    raise InputError(f"got the model {name!r}: {expected}{hint}")


def gather_bundle(root: Path, section: str, cell: str, *, run: dict[str, str] | None = None) -> Bundle:
    """Return the bundle of a trained experiment; `run` says which run trained it.

    Equal models give equal bundles. Raises `InputError` where a file that it needs is missing, damaged or of another
    model.
    """
    paths = Paths(root)
    checked_name(cell)
    gather = {CLASSIFIERS: _classifier, AUTOENCODERS: _autoencoder, CAPTIONERS: _captioner}[section]
    config, tensors = gather(paths, cell)
    config |= {"name": cell, "seesay": version("seesay"), "run": run or {}}
    return Bundle(validate(config, Config, where=f"{section}/{cell}"), tensors)


def training_run(root: Path, section: str, cell: str) -> dict[str, str]:
    """Return which run trained an experiment, as its record says; empty without a record."""
    path = Paths(root).run_record(f"train_{section.removesuffix('s')}", cell)
    if not path.is_file():
        return {}
    record = read_record(path)
    named = {"record": record.record_id, "mlflow_run": record.run_id, "commit": record.tags.get("git.commit")}
    return {key: value for key, value in named.items() if value}


def _classifier(paths: Paths, cell: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = load_checkpoint(paths.classifier(cell), kind="classifier")
    manifest = read_manifest(paths.images(checkpoint.dataset))
    checkpoint.require_classes(manifest.classes)
    metrics = _metrics(paths, "evaluate_classifier", cell)
    config = _describe(checkpoint, metrics, [manifest.source, *_weights_behind(paths, CLASSIFIERS, cell)])
    config |= {
        "transform": _transform(checkpoint),
        "classes": [ClassPart(wnid=one.wnid, label=one.label) for one in manifest.classes],
        "temperature": metrics.get(TEMPERATURE, 1.0),
    }
    return config, _under("model", checkpoint.state_dict)


def _autoencoder(paths: Paths, cell: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = load_checkpoint(paths.autoencoder(cell), kind="autoencoder")
    source = read_manifest(paths.images(checkpoint.dataset)).source
    sources = [source, *_weights_behind(paths, AUTOENCODERS, cell)]
    config = _describe(checkpoint, _metrics(paths, "evaluate_autoencoder", cell), sources)
    return config | {"transform": _transform(checkpoint)}, _under("model", checkpoint.state_dict)


def _weights_behind(paths: Paths, section: str, cell: str) -> list[SourceNote]:
    """Return where the published weights behind a model of images come from; none if params.yaml has it no more."""
    if not paths.params.is_file():
        return []
    kinds = {CLASSIFIERS: dict[str, Classifier], AUTOENCODERS: dict[str, Autoencoder]}
    params, where = read_yaml(paths.params), str(paths.params)
    cells: dict[str, Any] = {
        name: validate(params.get(name, {}), kind, where=where, prefix=[name]) for name, kind in kinds.items()
    }
    experiment = cells[section].get(cell)
    return [] if experiment is None else weights_behind(experiment, cells[CLASSIFIERS], paths)


def _captioner(paths: Paths, cell: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = load_checkpoint(paths.captioner(cell), kind="captioner")
    learned = learned_from(checkpoint)
    vocabulary = read_vocabulary(paths.vocabulary(learned.vocabulary))
    checkpoint.require_vocabulary(vocabulary.digest)
    experiments = read_section(paths.root, CAPTIONERS, dict[str, Any])
    if cell not in experiments:
        raise InputError(f"{paths.params}: captioners: got {cell!r}: expected one of {', '.join(experiments)}")
    where, prefix = str(paths.params), [CAPTIONERS, cell]
    experiment: Captioner = validate(experiments[cell], Captioner, where=where, prefix=prefix)
    positions = [position for position, _ in restore_captioner(checkpoint).inputs()]
    names = learned.features[: 1 + max(positions)]
    encoders, tensors, sources = [], _under("model", checkpoint.state_dict), []
    for number, name in enumerate(names):
        index = read_index(paths.features(name))
        encoder, weights = _encoder(paths, name, index)
        encoders.append(encoder)
        tensors |= _under(f"encoders.{number}", weights)
        sources += [read_caption_records(paths.captions(index.dataset)).source, index.weights]
    decoding = experiment.decoding.model_dump(exclude={"batch_size"}, exclude_none=True)
    if decoding.get("rerank"):
        tensors |= _under("references", _references(paths, checkpoint.dataset, vocabulary))
    config = _describe(checkpoint, _metrics(paths, "score_captions", cell), sources)
    config |= {
        "encoders": encoders,
        "vocabulary": VocabularyPart(
            tokens=list(vocabulary.tokens),
            min_count=vocabulary.min_count,
            tokenizer_version=vocabulary.tokenizer_version,
            captions_digest=vocabulary.captions_digest,
        ),
        "decoding": decoding,
    }
    return config, tensors


def _encoder(paths: Paths, name: str, index: FeaturesIndex) -> tuple[EncoderPart, dict[str, Tensor]]:
    """Return the encoder behind features, and its tensors."""
    origin = find_origin(index.encoder, paths)
    if origin.weights.files != index.weights.files:
        raise InputError(
            f"{paths.features(name)}: made with other weights than those of models/{index.encoder}: "
            f"run extract_features@{name} again"
        )
    interpolation: Interpolation = "bilinear"
    header: dict[str, Any] | None = None
    tensors: dict[str, Tensor] = {}
    if origin.network == CLASSIFIER:
        assert origin.path is not None
        checkpoint = load_checkpoint(origin.path, kind="classifier")
        header, tensors = header_of(checkpoint), dict(checkpoint.state_dict)
    elif origin.network not in UNTRAINED_ENCODERS:
        assert origin.path is not None
        network = load_published(origin.network, origin.path)
        interpolation = preprocessing_of(network).interpolation
        tensors = dict(remove_head(network).state_dict())
    if index.num_components is not None:
        arrays = read_arrays(paths.features(name) / "pca.npz")
        tensors |= {f"components.{key}": torch.from_numpy(array) for key, array in arrays.items()}
    size, resize_size = index.transform["image_size"], index.transform["resize_size"]
    part = EncoderPart(
        transform=TransformPart(image_size=size, resize_size=resize_size, interpolation=interpolation),
        network=origin.network,
        name=index.encoder,
        grid_size=None if index.grid_shape is None else math.isqrt(index.grid_shape[1]),
        num_components=index.num_components,
        checkpoint=header,
    )
    return part, tensors


def _references(paths: Paths, dataset: str, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """Return the training captions that consensus reranking counts words in, as token ids.

    A word outside the vocabulary becomes <unk>. No caption of the captioner has it, so that no score depends on it.
    """
    references = references_of([read_caption_records(paths.captions(dataset))], "train")
    captions = [vocabulary.encode(caption) for of_image in references for caption in of_image]
    return {
        "tokens": torch.tensor([token for caption in captions for token in caption], dtype=torch.int32),
        "lengths": torch.tensor([len(caption) for caption in captions], dtype=torch.int32),
        "counts": torch.tensor([len(of_image) for of_image in references], dtype=torch.int32),
    }


def _describe(checkpoint: Checkpoint, metrics: dict[str, float], sources: Sequence[SourceNote]) -> dict[str, Any]:
    """Return what the configs of all kinds have in common."""
    files = {file.name: file.url for note in sources for file in note.files}
    return {
        "kind": checkpoint.kind,
        "checkpoint": header_of(checkpoint),
        "metrics": metrics,
        "data": {"dataset": checkpoint.dataset, "digest": checkpoint.dataset_digest, "files": files},
        "substitutes": list(dict.fromkeys(name for note in sources for name in note.substitutes)),
    }


def _metrics(paths: Paths, stage: str, cell: str) -> dict[str, float]:
    """Return the metrics of a model's evaluation on test data; none before it."""
    path = paths.metrics(stage, cell)
    if not path.is_file():
        return {}
    content: dict[str, Any] = validate(read_json(path), dict[str, Any], where=str(path))
    found = {key: value for key, value in content.items() if key.startswith(("test/", TEMPERATURE))}
    return validate(found, dict[str, float], where=str(path))


def _transform(checkpoint: Checkpoint) -> TransformPart:
    transform = transform_of(checkpoint.image_size)
    return TransformPart(
        image_size=transform.image_size, resize_size=transform.resize_size, interpolation=transform.interpolation
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
