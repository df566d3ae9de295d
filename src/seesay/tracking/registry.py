"""Released models and their registration in MLflow's registry: one loadable version per released model."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seesay.core.errors import InputError
from seesay.core.files import file_digest, read_json
from seesay.core.paths import Paths
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner
from seesay.params.classification import Classifier
from seesay.params.results import Release
from seesay.sources.provenance import SourceNote, read_source
from seesay.tracking.environment import find_main_repository
from seesay.tracking.ledger import workspace_identity
from seesay.tracking.mlflow_runs import find_run
from seesay.tracking.records import RunRecord, read_record
from seesay.tracking.store import Store, describe_problem, locate_store, open_client

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient
    from pandas import DataFrame

ALIAS = "champion"
DIGEST_TAG = "model.sha256"
DECODING_TAG = "decoding"
SUBSTITUTES_TAG = "substitutes"
DATA_TAG = "data.digest"
Cells = Mapping[str, Mapping[str, Classifier | Autoencoder | Captioner]]
"""Experiments by section of params.yaml, for each section from which models can be released."""
FORMAT_TAG = "format"
FORMAT = "bundle"
"""A version's package: a bundle, which takes images. Versions of before took arrays."""

_IDENTITY = (DIGEST_TAG, DECODING_TAG, FORMAT_TAG)

PACKAGE = Path(__file__).parents[1] / "serving/pyfunc.py"


@dataclass(frozen=True)
class Kind:
    """A kind of model: its name, the stage that trains it, the stage that measures it and its main metric."""

    name: str
    train: str
    measure: str
    metric: str


KINDS = {
    "classifiers": Kind("classifier", "train_classifier", "evaluate_classifier", "test/top1"),
    "autoencoders": Kind("autoencoder", "train_autoencoder", "evaluate_autoencoder", "test/psnr"),
    "captioners": Kind("captioner", "train_captioner", "score_captions", "test/cider_d"),
}


def describe_release(settings: Release, paths: Paths, *, gate: dict[str, Any], cells: Cells) -> list[dict[str, Any]]:
    """Return the released models, one entry each.

    An entry holds the name in the registry, the kind, the experiment (`cell`), the weights and their digest, the main
    metric, the digest of the data that it was measured on, and the files that replaced official ones. The entry of a
    captioner also holds the decoding of the captions that were measured. Equal models give equal entries. Raises
    `InputError` if the gate has not passed, if a weights file, metrics file or data report is missing, or if `cells`
    lacks a released experiment.
    """
    if gate.get("passed") is not True:
        raise InputError(f"{paths.gate}: passed: got {gate.get('passed')!r}: a release requires a passed gate")
    entries = []
    for section, kind in KINDS.items():
        for cell in getattr(settings, section):
            weights: Path = getattr(paths, kind.name)(cell)
            if not weights.is_file():
                raise InputError(f"{weights}: no such file: release.{section} names {cell}, which is not trained")
            metrics_path = paths.metrics(kind.measure, cell)
            metrics = read_json(metrics_path)
            if kind.metric not in metrics:
                raise InputError(f"{metrics_path}: no key {kind.metric!r}")
            if cell not in cells[section]:
                raise InputError(f"{paths.params}: release.{section}: got {cell!r}: expected an entry of {section}")
            experiment = cells[section][cell]
            name = f"{settings.prefix}{kind.name}-{cell}"
            entry = {
                "name": name,
                "bundle": (paths.released / name).relative_to(paths.root).as_posix(),
                "kind": kind.name,
                "cell": cell,
                "weights": weights.relative_to(paths.root).as_posix(),
                "sha256": file_digest(weights),
                "metric": kind.metric,
                "value": metrics[kind.metric],
                "data": _data_report(paths, experiment).get("digest"),
                "substitutes": _substitutes(paths, experiment, cells),
            }
            if isinstance(experiment, Captioner):
                # Without the batch size, which changes no caption.
                entry["decoding"] = experiment.decoding.model_dump(exclude={"batch_size"}, exclude_none=True)
            entries.append(entry)
    return entries


def _data_report(paths: Paths, experiment: Classifier | Autoencoder | Captioner) -> Mapping[str, Any]:
    """Return the report on the dataset that a model is tested on."""
    if isinstance(experiment, Captioner):
        path = paths.data_report("prepare_captions", experiment.learning.datasets[0])
    else:
        path = paths.data_report("prepare_images", experiment.dataset)
    report: Mapping[str, Any] = read_json(path)
    return report


def weights_behind(
    experiment: Classifier | Autoencoder, classifiers: Mapping[str, Classifier], paths: Paths
) -> list[SourceNote]:
    """Return where the published weights come from that a model of images, or a classifier behind it, starts from."""
    notes = []
    one: Classifier | Autoencoder | None = experiment
    while one is not None:
        if isinstance(one, Classifier) and one.weights is not None:
            notes.append(read_source(paths.weights(one.weights)))
        one = None if one.parent is None else classifiers.get(one.parent)
    return notes


def _substitutes(paths: Paths, experiment: Classifier | Autoencoder | Captioner, cells: Cells) -> list[str]:
    """Return the names of the files that replaced official ones in a model's training data, or as its weights.

    The weights of a captioner's encoder are included.
    """
    if isinstance(experiment, Captioner):
        learning, reports = experiment.learning, []
        for features, name in learning.dataset_of_features.items():
            features_report = paths.data_report("extract_features", features)
            reports += [paths.data_report("prepare_captions", name), features_report]
            trained_on = read_json(features_report).get("trained_on")
            if trained_on:  # the encoder is one of our own classifiers
                reports.append(paths.data_report("prepare_images", trained_on["dataset"]))
    else:
        reports = [paths.data_report("prepare_images", experiment.dataset)]
    notes = [SourceNote.from_json(read_json(path).get("source"), where=path) for path in reports]
    if not isinstance(experiment, Captioner):
        classifiers = {name: one for name, one in cells["classifiers"].items() if isinstance(one, Classifier)}
        notes += weights_behind(experiment, classifiers, paths)
    return list(dict.fromkeys(name for note in notes for name in note.substitutes))


def register_models(root: Path, entries: list[dict[str, Any]]) -> int:
    """Give each released model a version in MLflow's registry, unless it has one, and the alias `champion`.

    A version is identified by the weights, and for a captioner also by the decoding, because its metric depends on
    both. Returns the number of models that changed. The alias moves once per release of a workspace, so that a sync
    takes back nothing that a person or another workspace has done since. DVC's experiments release nothing. A registry
    that cannot be reached causes only a warning, and `seesay sync` backfills the missed versions.
    """
    if os.environ.get("SEESAY_TRACKING") == "off" or not entries:
        return 0
    if os.environ.get("DVC_EXP_NAME"):
        _say("an experiment releases no model; if you apply it to the workspace, `seesay sync` does")
        return 0
    root = root.absolute()
    store = None
    try:
        store = locate_store(find_main_repository(root))
        client = open_client(store)
        return sum(_register(client, store, root, entry) for entry in entries)
    except Exception as error:  # MLflow raises many types, from ConnectionError to sqlalchemy's exceptions
        problem = str(error) if store is None else describe_problem(store, error)
        _say(f"warning: no model registered ({problem}); `seesay sync` tries again")
        return 0


def _say(text: str) -> None:
    sys.stderr.write(f"seesay: {text}\n")


def _register(client: MlflowClient, store: Store, root: Path, entry: dict[str, Any]) -> bool:
    from mlflow.exceptions import MlflowException

    name = entry["name"]
    versions = client.search_model_versions(f"name = '{name}'")
    tags = _version_tags(entry)
    same = [v for v in versions if all(v.tags.get(key) == tags.get(key) for key in _IDENTITY)]
    has_changed = False
    if same:
        version = max(same, key=lambda version: int(version.version))
        number = version.version
        for key in sorted(key for key in tags if version.tags.get(key) != tags[key]):
            client.set_model_version_tag(name, str(number), key, tags[key])
            has_changed = True
        if entry.get("substitutes") == [] and SUBSTITUTES_TAG in version.tags:
            client.delete_model_version_tag(name, str(number), SUBSTITUTES_TAG)
            has_changed = True
    else:
        if "bundle" not in entry:
            return False  # released by an earlier version of seesay: `register` has to run again
        weights = root / entry["weights"]
        if not weights.is_file() or file_digest(weights) != entry["sha256"] or not (root / entry["bundle"]).is_dir():
            return False  # the listed weights are not in the workspace, or have changed
        run_id = _training_run(client, store, root, entry)
        if run_id is None:
            return False
        try:
            client.create_registered_model(name, description=f"seesay's {entry['kind']} {entry['cell']}")
        except MlflowException:
            client.get_registered_model(name)  # it already exists; any other error is raised here
        number = _add_version(client, root, run_id, entry)
    return _make_champion(client, root, entry, str(number)) or has_changed


def _make_champion(client: MlflowClient, root: Path, entry: dict[str, Any], number: str) -> bool:
    """Give a version the alias, unless the champion is better or this workspace has released the version already.

    Only values of one metric on the same data can be compared. Return whether the alias moved.
    """
    name, model = entry["name"], client.get_registered_model(entry["name"])
    release = f"release.{workspace_identity(root)}"  # a tag of the model: the version that the workspace released last
    if model.tags.get(release) == number:
        return False
    champion = model.aliases.get(ALIAS)
    moves = str(champion) != number
    if champion is not None and moves:
        old, new = client.get_model_version(name, str(champion)).tags, _version_tags(entry)
        before, now = float(old.get("value", "nan")), float(new["value"])
        is_other = DATA_TAG in old and DATA_TAG in new and old[DATA_TAG] != new[DATA_TAG]
        is_comparable = old.get("metric") == new["metric"] and not is_other and not math.isnan(before)
        is_worse = is_comparable and not now >= before  # NaN is worse
        shown = f"{old.get('metric')} {old.get('value')} -> {new['metric']} {new['value']}"
        shown += " on other data" if is_other else ""
        if is_worse:
            _say(f"version {number} of {name} is worse than the champion, which stays version {champion}: {shown}")
            moves = False
        else:
            _say(f"the new champion of {name}: version {champion} -> {number}, {shown}")
    if moves:
        client.set_registered_model_alias(name, ALIAS, number)
    client.set_registered_model_tag(name, release, number)
    return moves


def _training_run(client: MlflowClient, store: Store, root: Path, entry: dict[str, Any]) -> str | None:
    """Return the id of the run that trained the weights, or None if MLflow has no such run.

    The packaged model is stored among its artifacts, and the registry links to it.
    """
    run = find_run(client, store, root, _training_record(root, entry))
    return None if run is None or run.info.lifecycle_stage == "deleted" else str(run.info.run_id)


def _signature(kind: str) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    image: Any = ColSpec(DataType.binary, "image")
    texts, numbers = Array(DataType.string), Array(DataType.double)
    classes: list[Any] = [ColSpec(DataType.string, "label"), ColSpec(DataType.double, "probability")]
    classes += [ColSpec(texts, "labels"), ColSpec(numbers, "probabilities")]
    outputs, params = {
        "classifier": (classes, [ParamSpec("top", DataType.long, 5)]),
        "autoencoder": ([image], []),
        "captioner": (
            [ColSpec(DataType.string, "caption"), ColSpec(texts, "captions")],
            [ParamSpec("num_captions", DataType.long, 1)],
        ),
    }[kind]
    schema = ParamSchema(params) if params else None
    return ModelSignature(Schema([image]), Schema(outputs), schema)  # type: ignore[arg-type]  # None is its default


def _example() -> DataFrame:
    """Return a table of one grey picture, as a PNG file: the form of what a registered model takes."""
    from pandas import DataFrame
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    return DataFrame({"image": [file.getvalue()]})


def _training_record(root: Path, entry: dict[str, Any]) -> RunRecord:
    train = next(kind.train for kind in KINDS.values() if kind.name == entry["kind"])
    return read_record(Paths(root).run_record(train, entry["cell"]))


def _version_tags(entry: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a version. The tags for substitutes and decoding are present only if the entry has them."""
    tags = {
        DIGEST_TAG: entry["sha256"],
        "dvc.path": entry["weights"],
        "metric": entry["metric"],
        "value": str(entry["value"]),
        FORMAT_TAG: FORMAT,
    }
    if entry.get("data"):
        tags[DATA_TAG] = entry["data"]
    if entry.get("substitutes"):
        tags[SUBSTITUTES_TAG] = ", ".join(entry["substitutes"])
    if "decoding" in entry:
        tags[DECODING_TAG] = json.dumps(entry["decoding"], sort_keys=True)
    return tags


def _add_version(client: MlflowClient, root: Path, run_id: str, entry: dict[str, Any]) -> str:
    # A training run has one package for each decoding with which its captioner is released; packages of before, which
    # took arrays, were named `model`.
    name = "-".join(["bundle", *(str(value) for _, value in sorted(entry.get("decoding", {}).items()))])
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model"
        save_package(package, root, entry)
        client.log_artifacts(run_id, str(package), name)
    version = client.create_model_version(
        entry["name"],
        source=f"runs:/{run_id}/{name}",
        run_id=run_id,
        tags=_version_tags(entry),
        description=f"The {entry['kind']} `{entry['cell']}`, released behind a passed gate: {entry['metric']} "
        f"{entry['value']:.4g} on test data. Trained by run `{run_id}`; DVC has the weights: `{entry['weights']}`.",
        await_creation_for=30,
    )
    return str(version.version)


def save_package(folder: Path, root: Path, entry: dict[str, Any]) -> None:
    """Write an MLflow model (pyfunc, from code) of released weights, which loads where seesay is installed."""
    import mlflow.pyfunc

    with (
        tempfile.TemporaryDirectory() as copies,
        warnings.catch_warnings(record=True),  # MLflow shows them even if they are ignored
    ):
        # MLflow refuses links, and DVC's cache may have put links in the place of the files.
        bundle = shutil.copytree(root / entry["bundle"], Path(copies) / "bundle")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(PACKAGE),
            artifacts={"bundle": str(bundle)},
            signature=_signature(entry["kind"]),
            input_example=_example(),
            pip_requirements=["seesay"],
            metadata={"cell": entry["cell"], entry["metric"]: str(entry["value"])},
        )
