"""Location and opening of MLflow's store. Any number of processes can open it at the same time."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock

from seesay.core.errors import InputError, redact
from seesay.core.files import read_text
from seesay.core.settings import PARAMS_FILE, parse_yaml
from seesay.tracking.environment import find_main_repository
from seesay.tracking.sqlite_store import DATABASE, REMEDY, repair_moved_paths, require_whole, sqlite_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

CALL_SECONDS = 60.0
"""Longest time of a call to MLflow, with its retries. `ENVIRONMENT` keeps those of a server that is down below it."""
UPLOAD_SECONDS = 600.0
"""Longest time of a call that uploads or downloads files."""

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
        """The file of a SQLite store, or None."""
        return sqlite_file(self.uri) if self.folder is None else self.folder / DATABASE

    def artifact_location(self, experiment: str) -> str | None:
        return None if self.folder is None else str(self.folder / "artifacts" / experiment)


def locate_store(main: Path) -> Store:
    """Return the store at MLFLOW_TRACKING_URI if that is set, else SQLite under `mlruns/` of the main repository.

    Raises `InputError` where the variable holds no URI.
    """
    uri = _without_credentials(os.environ.get("MLFLOW_TRACKING_URI", ""))
    folder = main / "mlruns"
    own = f"sqlite:///{folder / DATABASE}"
    return Store(uri, None) if uri and uri != own else Store(own, folder)


def experiment_name(root: Path, stage: str) -> str:
    """Return the name of a stage's MLflow experiment, with the prefix from params.yaml."""
    return read_prefix(root) + EXPERIMENTS.get(stage, PIPELINE)


def read_prefix(root: Path) -> str:
    """Return `tracking.experiment_prefix`, or "" if it cannot be read.

    Other modules reject invalid params; recording continues.
    """
    try:
        return _prefix_in(read_text(root / PARAMS_FILE))
    except (ValueError, OSError):
        return ""


@cache  # `sync` asks for each run that has no experiment yet, and parsing takes a tenth of a second
def _prefix_in(text: str) -> str:
    try:
        prefix: Any = parse_yaml(text, Path(PARAMS_FILE))["tracking"]["experiment_prefix"]
    except (ValueError, KeyError, TypeError):
        return ""
    return prefix if isinstance(prefix, str) else ""


def fetch_model(root: Path, uri: str) -> Path:
    """Download a registered model, `models:/<name>@<alias>` or `models:/<name>/<version>`; return its bundle's folder.

    The registry is that of the repository `root`, or the one that MLFLOW_TRACKING_URI names. Raises `InputError` where
    there is no such model or no registry.
    """
    import mlflow.artifacts

    found = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if found is None:
        raise InputError(f"{uri}: expected models:/<name>@<alias> or models:/<name>/<version>")
    name, alias, number = found.groups()
    store = locate_store(find_main_repository(root.absolute()))
    if store.database is not None and not store.database.is_file():
        raise InputError(f"{uri}: {store.database}: no such file: no model is registered here")
    try:
        client = open_client(store)
        version = client.get_model_version_by_alias(name, alias).version if alias else number
        location = client.get_model_version_download_uri(name, version)
        folder = bounded(
            lambda: mlflow.artifacts.download_artifacts(artifact_uri=location, tracking_uri=store.uri),
            seconds=UPLOAD_SECONDS,
        )
    except Exception as error:  # MLflow raises many types
        raise InputError(f"{uri}: not found in MLflow's registry ({describe_problem(store, error)})") from None
    return Path(folder) / "artifacts/bundle"


def open_client(store: Store) -> MlflowClient:
    """Return a client that has reached its store, and each of whose calls is bounded in time.

    If the store cannot be reached, MLflow's own exception is raised. Raises `InputError` if the file of a SQLite store
    is none, and `TimeoutError` if the store does not answer.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _configure_logging()
    database = store.database
    if database is None:
        return _connect(store.uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    # If several processes open a new database at once, all but one fail in its migration. So they take turns.
    with FileLock(database.parent / f".{database.stem}.lock", timeout=120):
        require_whole(database)
        if store.folder is not None:
            repair_moved_paths(store.folder)
        return _connect(store.uri)


def _connect(uri: str) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    client = bounded(lambda: MlflowClient(uri, registry_uri=uri), seconds=CALL_SECONDS)
    reached = cast("MlflowClient", _BoundedClient(client))
    reached.get_experiment_by_name("Default")
    return reached


def _configure_logging() -> None:
    """Let MLflow log warnings only, and no credentials."""
    import mlflow  # noqa: F401  # it configures its logger when it is imported

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(_redacted)


def _redacted(record: logging.LogRecord) -> bool:
    """Take credentials out of what MLflow logs."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def _without_credentials(uri: str) -> str:
    """Move a server's user and password from its URI to the variables from which MLflow also reads them.

    MLflow prints the URI of a server with the link of each run. The URI of a database keeps its password, because
    there is no other way, and `redact` takes it out of messages. Raises `InputError` for what is no URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # its text may have the password
        expected = "expected a URI, with special characters of a password percent-encoded"
        raise InputError(f"MLFLOW_TRACKING_URI: {expected}") from None
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    os.environ["MLFLOW_TRACKING_URI"] = bare
    return bare


def describe_problem(store: Store, error: Exception) -> str:
    """Return one line without credentials: the store, the reason why it cannot be used and, if known, the remedy."""
    reason = redact(" ".join(str(error).split()))[:500]
    if isinstance(error, InputError):
        return reason
    if "malformed" in reason:
        remedy = f"; {REMEDY}"
    else:
        remedy = "" if store.folder is not None else "; check MLFLOW_TRACKING_URI, or unset it to use mlruns/"
    return f"{redact(store.uri)}: {type(error).__name__}: {reason}{remedy}"


class _BoundedClient:
    """An MLflow client each of whose calls ends in time or raises `TimeoutError`."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute
        seconds = UPLOAD_SECONDS if name.startswith("log_artifact") else CALL_SECONDS
        return lambda *arguments, **named: bounded(lambda: attribute(*arguments, **named), seconds=seconds)


def bounded(call: Callable[[], T], *, seconds: float) -> T:
    """Return the result of a call, or raise `TimeoutError` after some seconds and leave the call to itself.

    The timeout of a request is one of each read, so a server that sends a byte now and then never exceeds it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="mlflow-call", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


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
