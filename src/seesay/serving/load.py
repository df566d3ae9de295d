"""Loading of trained models: from a bundle, from a workspace, or from MLflow's registry."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.serving.bundle import Bundle, is_bundle, read_bundle
from seesay.serving.captioner import Captioner
from seesay.serving.gather import SECTIONS, find_cell, gather_bundle
from seesay.serving.predictor import Autoencoder, Classifier
from seesay.tracking.store import fetch_model

Model = Classifier | Captioner | Autoencoder

REGISTERED = "models:/"
DEMO = Path(".work/demo")

_IN_WORKSPACE = re.compile(rf"(?:(.*)/)?models/({'|'.join(SECTIONS)})/([^/]+?)(?:\.pt|/0\.pt|/captioner\.pt)?")
"""A trained experiment's weights: the workspace's root, section and experiment."""


def load(source: str | os.PathLike[str], *, device: str = "auto") -> Model:
    """Load a trained model, ready to be called with images.

    `source` is the folder of a bundle, the weights of an experiment in a workspace (`models/classifiers/resnet9`) or
    its name (`classifiers/resnet9`, `resnet9`), or a model in MLflow's registry
    (`models:/seesay-classifier-resnet9@champion`).
    `device` is `auto`, `cpu`, `cuda`, `cuda:<number>` or `mps`. Raises `InputError` where there is no such model, and
    where a file is missing, damaged or was changed. Nothing in a bundle is executed.
    """
    return load_named(Path(), os.fspath(source), device=device)


def load_named(root: Path, source: str, *, device: str = "auto") -> Model:
    """Load a model as `load` does; paths and names are those in the workspace `root`."""
    return build(open_bundle(source, root=root), device=device)


def build(bundle: Bundle, *, device: str = "auto") -> Model:
    """Return the model in a bundle."""
    kinds: dict[str, Callable[..., Model]] = {
        "classifier": Classifier,
        "captioner": Captioner,
        "autoencoder": Autoencoder,
    }
    return kinds[bundle.config.kind](bundle, device=device)


def open_bundle(source: str, *, root: Path) -> Bundle:
    """Return the bundle of a model; see `load_named`."""
    if source.startswith(REGISTERED):
        return read_bundle(fetch_model(root, source))
    if "://" in source:
        raise InputError(f"{source}: expected a folder, the name of an experiment, or models:/<name>@<alias>")
    if is_bundle(root / source):
        return read_bundle(root / source)
    if found := _IN_WORKSPACE.fullmatch((root / source).as_posix().rstrip("/")):
        return gather_bundle(Path(found[1] or "."), found[2], found[3])
    if (root / source).exists():
        raise InputError(f"{source}: not a bundle: it has no config.json")
    return gather_bundle(root, *find_cell(root, source))


def released_bundles(root: Path) -> list[Path]:
    """Return the bundles of the models that `register` has released in a workspace.

    Where there are none, they are those of the demo inside it.
    """
    for workspace in (root, root / DEMO):
        if found := [path for path in sorted(Paths(workspace).released.glob("*")) if is_bundle(path)]:
            return found
    raise InputError(
        f"{root.absolute()}: no model is released here: name one with --model, run `seesay repro`, or `seesay demo` "
        "for models of generated pictures"
    )
