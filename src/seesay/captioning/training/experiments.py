"""The captioner that training starts from: new weights, or those of another captioner."""

from __future__ import annotations

from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.networks.base import Captioner
from seesay.captioning.networks.registry import build_captioner
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.params.captioning import CaptionerTraining
from seesay.training.build import load_weights
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint


def start_captioner(
    cell: str, settings: CaptionerTraining, vocabulary: Vocabulary, paths: Paths, *, feature_size: int, seed: int
) -> Captioner:
    """Return the captioner before training.

    Raises `InputError` where the captioner that it starts from is missing, or has another architecture, vocabulary or
    feature size.
    """
    captioner = build_captioner(
        settings.architecture,
        vocabulary_size=len(vocabulary),
        feature_size=feature_size,
        seed=seed,
        key=f"captioners.{cell}.learning.architecture",
    )
    if settings.parent is not None:
        initial = load_checkpoint(paths.captioner(settings.parent), kind="captioner")
        _require_compatible(cell, settings, initial, vocabulary, feature_size=feature_size)
        load_weights(captioner, initial.state_dict)
    return captioner


def _require_compatible(
    cell: str, settings: CaptionerTraining, initial: Checkpoint, vocabulary: Vocabulary, *, feature_size: int
) -> None:
    key = f"captioners.{cell}.learning"
    for name, ours, theirs in (
        ("vocabulary", vocabulary.digest[:12], initial.vocabulary_digest[:12]),
        ("architecture", describe_architecture(settings.architecture), initial.architecture),
        ("features", feature_size, initial.sizes["feature_size"]),
    ):
        if ours != theirs:
            raise InputError(
                f"{key}.{name}: got {ours}: expected {theirs}, that of {settings.parent}, which it starts from; "
                f"change it, or train {settings.parent} again"
            )
