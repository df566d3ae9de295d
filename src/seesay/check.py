"""Checks of params.yaml and gates.yaml before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seesay.core.errors import InputError, did_you_mean
from seesay.core.files import file_digest, read_text
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, check_names, read_yaml
from seesay.images.tiny_imagenet import SUBSETS
from seesay.params.classification import ENSEMBLE
from seesay.params.project import Params, load_params
from seesay.report.rules import read_gates, unknown_metrics


def check_repository(root: Path) -> None:
    """Raise `InputError` unless `root` has a pipeline, as the repository's root and a workspace do."""
    missing = [name for name in ("params.yaml", "dvc.yaml") if not (root / name).is_file()]
    if missing:
        above = next((folder for folder in root.parents if (folder / "dvc.yaml").is_file()), None)
        where = "the repository's root" if above is None else str(above)
        raise InputError(f"{root}: no {' and no '.join(missing)} here; run seesay in {where}")


def check_git(root: Path) -> None:
    """Raise `InputError` if DVC expects a git repository and there is none."""
    config = root / ".dvc/config"
    without = config.is_file() and "no_scm = true" in config.read_text(encoding="utf-8").lower()
    if not without and not any((folder / ".git").exists() for folder in (root, *root.parents)):
        raise InputError(
            f"{root}: not in a git repository; run `git init`, or `dvc config core.no_scm true` to use DVC without git"
        )


def check_workspace(root: Path) -> Params:
    """Return the validated parameters; raises `InputError` for the first invalid file, naming its wrong keys."""
    path, gates = root / PARAMS_FILE, root / "gates.yaml"
    content = read_yaml(path)
    check_names(content, where=str(path))
    try:
        params = load_params(root)
    except InputError:
        # An unknown architecture causes further errors: report its name alone.
        _refuse(_unknown_architectures(content), path)
        raise
    for name, dataset in params.image_datasets.items():
        if dataset.subset is not None and dataset.subset not in SUBSETS:
            expected = f"expected one of {', '.join(SUBSETS)}{did_you_mean(dataset.subset, SUBSETS)}"
            raise InputError(f"{path}: image_datasets.{name}.subset: got {dataset.subset!r}: {expected}")
    experiments = {section: entries for section, entries in params if isinstance(entries, dict)}
    _refuse(unknown_metrics(read_gates(gates), experiments), gates)
    return params


def check_before_run(root: Path) -> Params:
    """Check the parameters as the stage `check` does, so that an error is seen without DVC's own words.

    Building the networks is left out if dvc.lock has this params.yaml: the stage has built them, or builds them again
    if their code has changed. It takes most of the time of a run in which nothing has changed.
    """
    params, lock = check_workspace(root), Paths(root).lock
    if not lock.is_file() or file_digest(root / PARAMS_FILE, "md5") not in read_text(lock):
        check_architectures(params)
    return params


def _refuse(problems: Iterable[str], path: Path) -> None:
    if lines := [f"{path}: {problem}" for problem in problems]:
        raise InputError("\n".join(lines))


def _unknown_architectures(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each unknown name of an architecture in parameters that may be wrong elsewhere too."""
    from seesay.autoencoding.networks.registry import AUTOENCODERS
    from seesay.captioning.networks.registry import CAPTIONERS
    from seesay.classification.networks.registry import CLASSIFIERS

    for section, key, known in (
        ("classifiers", "architecture.name", {*CLASSIFIERS, ENSEMBLE}),
        ("autoencoders", "architecture.name", {*AUTOENCODERS}),
        ("captioners", "learning.architecture.name", {*CAPTIONERS, ENSEMBLE}),
    ):
        entries: Any = content.get(section)
        for entry, value in entries.items() if isinstance(entries, Mapping) else ():
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, str) and value not in known:
                expected = f"expected one of {', '.join(sorted(known))}{did_you_mean(value, known)}"
                yield f"{section}.{entry}.{key}: got {value!r}: {expected}"


def check_architectures(params: Params) -> None:
    """Build every network named in the parameters on PyTorch's meta device, which allocates no memory.

    Raises `InputError` for an unknown architecture or argument, and for a captioner that attends to a grid when its
    features have none. The message names the key, the value and the allowed values.
    """
    from seesay.autoencoding.networks.registry import build_autoencoder
    from seesay.autoencoding.training.masks import num_hidden_patches
    from seesay.captioning.networks.registry import build_captioner
    from seesay.classification.networks.published import build_published
    from seesay.classification.networks.registry import build_classifier
    from seesay.training.build import shapes_alone

    with shapes_alone():
        for name, weights in params.weights.items():
            if weights.archive is not None:
                build_published(weights.architecture, key=f"{PARAMS_FILE}: weights.{name}.architecture")
        for name, classifier in params.classifiers.items():
            if classifier.architecture.name == ENSEMBLE:
                continue  # consists of its members
            key = f"classifiers.{name}.architecture"
            size = params.image_datasets[classifier.dataset].image_size
            build_classifier(classifier.architecture, num_classes=10, image_size=size, seed=0, key=key)
        for name, autoencoder in params.autoencoders.items():
            key = f"autoencoders.{name}.architecture"
            size = params.image_datasets[autoencoder.dataset].image_size
            build_autoencoder(autoencoder.architecture, image_size=size, seed=0, key=key)
            if autoencoder.masking is not None:
                try:
                    num_hidden_patches(autoencoder.masking, image_size=size)
                except InputError as error:
                    raise InputError(f"{PARAMS_FILE}: autoencoders.{name}.{error}") from None
        for name, captioner in params.captioners.items():
            if captioner.learning.is_ensemble:
                continue
            learning, key = captioner.learning, f"captioners.{name}.learning"
            built = build_captioner(
                learning.architecture, vocabulary_size=10, feature_size=10, seed=0, key=f"{key}.architecture"
            )
            features = learning.features[0]
            if built.looks_at == "grid" and params.features[features].grid_size is None:
                raise InputError(
                    f"{PARAMS_FILE}: {key}.features: got {features!r}: expected features with a grid_size: "
                    f"architecture {learning.architecture.name} attends to a grid"
                )
