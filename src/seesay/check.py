"""Checks of params.yaml and gates.yaml before anything runs."""

from __future__ import annotations

from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.settings import PARAMS_FILE
from seesay.images.tiny_imagenet import SUBSETS
from seesay.params.classification import ENSEMBLE
from seesay.params.cross_checks import load_params
from seesay.params.project import Params


def check_workspace(root: Path) -> Params:
    """Return the validated parameters; raises `InputError` for the first invalid file, naming its wrong keys."""
    params = load_params(root)
    for name, dataset in params.image_datasets.items():
        if dataset.subset not in SUBSETS:
            key = f"{root / PARAMS_FILE}: image_datasets.{name}.subset"
            raise InputError(f"{key}: got {dataset.subset!r}: expected one of {', '.join(SUBSETS)}")
    from seesay.report.rules import read_gates

    read_gates(root / "gates.yaml")
    return params


def check_architectures(params: Params) -> None:
    """Build every network named in the parameters on PyTorch's meta device, which allocates no memory.

    Raises `InputError` for an unknown architecture or argument, and for a captioner that attends to a grid when its
    features have none. The message names the key, the value and the allowed values.
    """
    import torch

    from seesay.autoencoding.networks.registry import build_autoencoder
    from seesay.autoencoding.training.masks import num_hidden_patches
    from seesay.captioning.networks.registry import build_captioner
    from seesay.classification.networks.registry import build_classifier

    with torch.device("meta"):
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
            learning, key = captioner.learning, f"captioners.{name}.learning"
            built = build_captioner(
                learning.architecture, vocabulary_size=10, feature_size=10, seed=0, key=f"{key}.architecture"
            )
            features = learning.features[0]
            if built.looks_at == "grid" and params.features[features].grid_size is None:
                raise InputError(
                    f"{PARAMS_FILE}: {key}.features: got {features!r}: expected features with a grid_size: "
                    f"architecture {learning.architecture.name} looks at a grid"
                )
