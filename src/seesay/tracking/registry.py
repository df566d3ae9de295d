"""Which models are released, and how they enter MLflow's registry: once per weights, loadable from there."""

from __future__ import annotations

import json
import os
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
from seesay.sources.provenance import SourceNote
from seesay.tracking.environment import find_main_repository
from seesay.tracking.records import RunRecord, read_record
from seesay.tracking.replay import find_run
from seesay.tracking.store import Store, locate_store, open_client

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

ALIAS = "champion"
DIGEST_TAG = "model.sha256"
DECODING_TAG = "decoding"
SUBSTITUTES_TAG = "substitutes"
Cells = Mapping[str, Mapping[str, Classifier | Autoencoder | Captioner]]
"""The cells of each section of params.yaml that a release names cells of."""
PACKAGE = Path(__file__).with_name("packaged_model.py")


@dataclass(frozen=True)
class Kind:
    """Of one kind of models: the stage that makes them, the one that measures them, the metric that counts."""

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
    """The released models, one entry each.

    An entry holds the name in the registry, kind, cell, weights and their digest, main metric, the files that stood in
    for official ones, and of a captioner how the captions measured were decoded. Equal models give equal entries.
    Raises `InputError` where the gate has not passed, a weights or metrics file or a data report is missing, or
    `cells` lacks a released one.
    """
    if gate.get("passed") is not True:
        raise InputError(f"{paths.gate}: passed: got {gate.get('passed')!r}: nothing is released behind a failed gate")
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
            made_as = cells[section][cell]
            entry = {
                "name": f"{settings.prefix}{kind.name}-{cell}",
                "kind": kind.name,
                "cell": cell,
                "weights": weights.relative_to(paths.root).as_posix(),
                "sha256": file_digest(weights),
                "metric": kind.metric,
                "value": metrics[kind.metric],
                "substitutes": _substitutes(paths, made_as),
            }
            if isinstance(made_as, Captioner):
                # Not the batch size, which changes no caption.
                entry["decoding"] = made_as.decoding.model_dump(exclude={"batch_size"})
            entries.append(entry)
    return entries


def _substitutes(paths: Paths, made_as: Classifier | Autoencoder | Captioner) -> list[str]:
    """Names of the files that stood in for official ones in what a model was made from, its encoder's weights too."""
    if isinstance(made_as, Captioner):
        learning, reports = made_as.learning, []
        for name, features in zip(learning.datasets, learning.features, strict=True):
            seen = paths.data_report("extract_features", features)
            reports += [paths.data_report("prepare_captions", name), seen]
            trained_on = read_json(seen).get("trained_on")
            if trained_on:  # the encoder is a classifier of ours
                reports.append(paths.data_report("prepare_images", trained_on["dataset"]))
    else:
        reports = [paths.data_report("prepare_images", made_as.dataset)]
    notes = [SourceNote.from_json(read_json(path).get("source"), where=path) for path in reports]
    return list(dict.fromkeys(name for note in notes for name in note.substitutes))


def register_models(root: Path, entries: list[dict[str, Any]]) -> int:
    """Gives each released model a version in MLflow's registry, unless it has one, and the alias `champion`.

    A model is its weights, and of a captioner also how it decodes: the value it is released with depends on both.
    Returns how many models that changed. Never fatal: a registry that cannot be reached is a warning, and `seesay sync`
    makes it good.
    """
    if os.environ.get("SEESAY_TRACKING") == "off" or not entries:
        return 0
    root = root.resolve()
    try:
        store = locate_store(find_main_repository(root))
        client = open_client(store)
        return sum(_register(client, store, root, entry) for entry in entries)
    except Exception as error:  # MLflow raises anything from ConnectionError to sqlalchemy's own
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
        sys.stderr.write(
            f"seesay: warning: models are not in MLflow's registry ({reason}); `seesay sync` tries again\n"
        )
        return 0


def _register(client: MlflowClient, store: Store, root: Path, entry: dict[str, Any]) -> bool:
    from mlflow.exceptions import MlflowException

    name = entry["name"]
    versions = client.search_model_versions(f"name = '{name}'")
    tags = _version_tags(entry)
    same = [v for v in versions if all(v.tags.get(key) == tags.get(key) for key in (DIGEST_TAG, DECODING_TAG))]
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
        if entry["kind"] == "captioner" and "decoding" not in entry:
            return False  # released by an earlier seesay: `register` is to run again
        weights = root / entry["weights"]
        if not weights.is_file() or file_digest(weights) != entry["sha256"]:
            return False  # the list is of weights that are not here (any more)
        run_id = _training_run(client, store, root, entry)
        if run_id is None:
            return False
        try:
            client.create_registered_model(name, description=f"seesay's {entry['kind']} {entry['cell']}")
        except MlflowException:
            client.get_registered_model(name)  # it is there already; anything else raises here
        number = _add_version(client, root, run_id, entry)
    champion = client.get_registered_model(name).aliases.get(ALIAS)
    if str(champion) == str(number):
        return has_changed
    client.set_registered_model_alias(name, ALIAS, str(number))
    return True


def _training_run(client: MlflowClient, store: Store, root: Path, entry: dict[str, Any]) -> str | None:
    """The run that made the weights: the model's files lie among its artifacts, and the registry links to it."""
    run = find_run(client, store, root, _training_record(root, entry))
    return None if run is None or run.info.lifecycle_stage == "deleted" else str(run.info.run_id)


def _signature(entry: dict[str, Any], root: Path) -> ModelSignature:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    images = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))])
    probabilities = Schema([TensorSpec(np.dtype(np.float32), (-1, -1))])
    captions = Schema([ColSpec(DataType.string)])
    features = probabilities  # pooled ones have the same type
    if entry["kind"] == "captioner" and _looks_at_grid(root / entry["weights"]):
        features = Schema([TensorSpec(np.dtype(np.float32), (-1, -1, -1))])
    inputs, outputs = {
        "classifier": (images, probabilities),
        "autoencoder": (images, images),
        "captioner": (features, captions),
    }[entry["kind"]]
    return ModelSignature(inputs=inputs, outputs=outputs)


def _looks_at_grid(weights: Path) -> bool:
    from seesay.captioning.networks.registry import CAPTIONERS
    from seesay.training.checkpoint import load_checkpoint

    architecture = load_checkpoint(weights, kind="captioner").architecture
    return CAPTIONERS[architecture["name"]].looks_at == "grid"


def _training_record(root: Path, entry: dict[str, Any]) -> RunRecord:
    train = next(kind.train for kind in KINDS.values() if kind.name == entry["kind"])
    return read_record(Paths(root).run_record(train, entry["cell"]))


def _version_tags(entry: dict[str, Any]) -> dict[str, str]:
    """What a version says of itself; of substitutes and of decoding nothing where there are none."""
    tags = {
        DIGEST_TAG: entry["sha256"],
        "dvc.path": entry["weights"],
        "metric": entry["metric"],
        "value": str(entry["value"]),
    }
    if entry.get("substitutes"):
        tags[SUBSTITUTES_TAG] = ", ".join(entry["substitutes"])
    if "decoding" in entry:
        tags[DECODING_TAG] = json.dumps(entry["decoding"], sort_keys=True)
    return tags


def _add_version(client: MlflowClient, root: Path, run_id: str, entry: dict[str, Any]) -> str:
    # One training run has a package for each way its captioner is released to decode.
    name = "-".join(["model", *(str(value) for _, value in sorted(entry.get("decoding", {}).items()))])
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model"
        save_package(package, root, entry)
        client.log_artifacts(run_id, str(package), name)
    version = client.create_model_version(
        entry["name"],
        source=f"runs:/{run_id}/{name}",
        run_id=run_id,
        tags=_version_tags(entry),
        await_creation_for=30,
    )
    return str(version.version)


def save_package(folder: Path, root: Path, entry: dict[str, Any]) -> None:
    """An MLflow model (pyfunc, from code) of released weights, which `mlflow.pyfunc.load_model` loads beside seesay."""
    import mlflow.pyfunc

    artifacts = {"weights": str(root / entry["weights"])}
    config = {"kind": entry["kind"]}
    if entry["kind"] == "captioner":
        settings = _training_record(root, entry).params
        artifacts["vocabulary"] = str(Paths(root).vocabulary(str(settings["vocabulary"])))
        config["decoding"] = entry["decoding"]
    with warnings.catch_warnings(record=True):  # MLflow would show them even where they are ignored
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(PACKAGE),
            artifacts=artifacts,
            model_config=config,
            signature=_signature(entry, root),
            pip_requirements=["seesay"],
            metadata={"cell": entry["cell"], entry["metric"]: str(entry["value"])},
        )
