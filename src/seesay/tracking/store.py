"""Location and opening of MLflow's store. Any number of processes can open it at the same time."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from seesay.core.settings import PARAMS_FILE, read_yaml

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PIPELINE = "pipeline"
EXPERIMENTS = {
    "fetch_images": "classification",
    "prepare_images": "classification",
    "train_classifier": "classification",
    "evaluate_classifier": "classification",
    "explain_classifier": "classification",
    "compare_classifiers": "classification",
    "train_autoencoder": "autoencoder",
    "evaluate_autoencoder": "autoencoder",
    "explain_autoencoder": "autoencoder",
    "fetch_captions": "captioning",
    "prepare_captions": "captioning",
    "build_vocabulary": "captioning",
    "fetch_weights": "captioning",
    "extract_features": "captioning",
    "train_captioner": "captioning",
    "finetune_encoder": "captioning",
    "caption_images": "captioning",
    "score_captions": "captioning",
    "explain_captioner": "captioning",
    "compare_captioners": "captioning",
}
"""Task of each stage. The other stages (report, gate, register) concern the pipeline as a whole."""

DESCRIPTIONS = {
    PIPELINE: "One run per execution of the pipeline; its description links to the runs of the stages.",
    "classification": "Classifiers: `train` runs have the curves, `evaluate` runs the test scores (`test/top1`).",
    "autoencoder": "Autoencoders: `train` runs have the curves, `evaluate` runs the test scores (`test/psnr`).",
    "captioning": "Captioners: `train` runs have the curves, `score` runs the test scores (`test/cider_d`).",
}
"""What an MLflow experiment holds, by its name without prefix, in Markdown."""

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description."""

# Columns that hold absolute artifact paths (MLflow 3.17).
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment variables for MLflow, unless they are already set.

A server that is down must be detected within seconds; MLflow's defaults take minutes.
"""


@dataclass(frozen=True)
class Store:
    """A tracking store.

    `uri` is MLflow's tracking URI. `folder` holds the database and artifacts of our own store. For any other
    store it is None.
    """

    uri: str
    folder: Path | None

    @property
    def database(self) -> Path | None:
        return None if self.folder is None else self.folder / "mlflow.db"

    def artifact_location(self, experiment: str) -> str | None:
        return None if self.folder is None else str(self.folder / "artifacts" / experiment)


def locate_store(main: Path) -> Store:
    """Return the store at MLFLOW_TRACKING_URI if that is set, else SQLite under `mlruns/` of the main repository."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    folder = main / "mlruns"
    own = f"sqlite:///{folder / 'mlflow.db'}"
    return Store(uri, None) if uri and uri != own else Store(own, folder)


def experiment_name(root: Path, stage: str) -> str:
    """Return the name of a stage's MLflow experiment, with the prefix from params.yaml."""
    return read_prefix(root) + EXPERIMENTS.get(stage, PIPELINE)


def read_prefix(root: Path) -> str:
    """Return `tracking.experiment_prefix`, or "" if it cannot be read.

    Other modules reject invalid params; recording continues.
    """
    try:
        prefix: Any = read_yaml(root / PARAMS_FILE)["tracking"]["experiment_prefix"]
    except (ValueError, OSError, KeyError, TypeError):
        return ""
    return prefix if isinstance(prefix, str) else ""


def open_client(store: Store) -> MlflowClient:
    """Return a client that has reached its store. If it cannot be reached, MLflow's own exception is raised."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if store.folder is None:
        client = MlflowClient(store.uri, registry_uri=store.uri)
        client.get_experiment_by_name("Default")
        return client
    store.folder.mkdir(parents=True, exist_ok=True)
    # If several processes open a new database at once, all but one fail in its migration. So they take turns.
    with FileLock(store.folder / ".mlflow.lock", timeout=120):
        repair_moved_paths(store)
        client = MlflowClient(store.uri, registry_uri=store.uri)
        client.get_experiment_by_name("Default")
    return client


def training_views(store: Store, address: str) -> list[str]:
    """Return a line per experiment with its name and the page of its runs, on the server at `address`.

    Without the page's name, MLflow 3 opens an experiment on a page for language models, which is empty.
    """
    client = open_client(store)
    found = sorted((one.name, one.experiment_id) for one in client.search_experiments() if one.name != "Default")
    return [f"{name}: {address}/#/experiments/{number}/runs?workflowType=machine_learning" for name, number in found]


def experiment_id(client: MlflowClient, store: Store, name: str) -> str:
    """Return the id of an MLflow experiment. Create it if it is missing, and restore it if a user has deleted it."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            described = next((text for task, text in DESCRIPTIONS.items() if name.endswith(task)), "")
            location = store.artifact_location(name)
            return str(client.create_experiment(name, artifact_location=location, tags={NOTE: described}))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def repair_moved_paths(store: Store) -> bool:
    """Repair the artifact paths in MLflow's store after the repository was moved, because MLflow stores absolute paths.

    Returns true if anything was changed. This applies only to the store under `mlruns/`, not to the paths of a server.
    """
    if store.database is None or store.folder is None or not store.database.is_file():
        return False
    now, tail = str(store.folder), "/mlruns/artifacts/"
    with closing(sqlite3.connect(store.database, timeout=30)) as database, database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return False
        locations = [row[0] or "" for row in database.execute("SELECT artifact_location FROM experiments")]
        # Split at the last occurrence, because a folder above the repository may have any name.
        roots = {f"{location.rpartition(tail)[0]}/mlruns" for location in locations if tail in location}
        before = database.total_changes
        for old in sorted(roots - {now}):
            for table, column in PATH_COLUMNS:
                if table in tables:
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (now, len(old) + 1, len(old) + 1, f"{old}/"),
                    )
        return database.total_changes > before
