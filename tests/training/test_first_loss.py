"""The check of the first loss lets every seed of every shipped experiment train, and stops wrong wiring."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seesay.captioning.networks.registry import CAPTIONERS, build_captioner
from seesay.classification.networks.registry import CLASSIFIERS, build_classifier
from seesay.core.settings import read_yaml
from seesay.params.classification import ENSEMBLE, Architecture
from seesay.training.checks import TrainingError, check_first_loss, check_labels, check_next_tokens

ROOT = Path(__file__).resolve().parents[2]
NUM_SEEDS, BATCH_SIZE, IMAGE_SIZE = 30, 6, 64
NUM_CLASSES = {"tiny10_100": 10, "tiny20": 20, "tiny30": 30, "tiny200": 200, "scenes10": 10}
VOCABULARY_SIZE, FEATURE_SIZE, NUM_PLACES, LENGTH = 1000, 64, 9, 8


@cache
def sections(name: str) -> dict[str, dict]:
    files = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
    return {f"{path.stem}: {cell}": entry for path in files for cell, entry in read_yaml(path).get(name, {}).items()}


def shipped_classifiers() -> dict[str, tuple[str, int]]:
    """Return (architecture, number of classes) by the name of the first experiment that has the architecture.

    A published network sees 32 pixels, so that 30 of them take seconds.
    """
    found = {}
    for name, entry in sections("classifiers").items():
        architecture = dict(entry["architecture"])
        if architecture["name"] == ENSEMBLE:
            continue
        if "input_size" in architecture:
            architecture["input_size"] = 32
        found.setdefault(repr(sorted(architecture.items())), (name, architecture, NUM_CLASSES[entry["dataset"]]))
    return {name: (architecture, num_classes) for name, architecture, num_classes in found.values()}


def shipped_captioners() -> dict[str, dict]:
    found: dict[str, tuple[str, dict]] = {}
    for name, entry in sections("captioners").items():
        architecture = entry["learning"]["architecture"]
        if architecture["name"] == ENSEMBLE:
            continue
        found.setdefault(repr(sorted(architecture.items())), (name, architecture))
    for name in ("att2in", "updown"):  # no experiment has them now; their arguments are soft attention's
        alike = next(one for _, one in found.values() if one["name"] == "soft_attention")
        found[name] = (f"none: {name}", {**alike, "name": name})
    return dict(found.values())


@cache
def pictures(side: int) -> torch.Tensor:
    """Smooth shapes with some noise, normalised: neighbouring pixels of images are alike."""
    generator = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.randn(BATCH_SIZE, 3, 4, 4, generator=generator), size=side, mode="bilinear")
    images = coarse + 0.3 * torch.randn(BATCH_SIZE, 3, side, side, generator=generator)
    return (images - images.mean()) / images.std()


def require_check(logits: torch.Tensor, targets: torch.Tensor, network: torch.nn.Module, *, name: str) -> None:
    """Require that the logits are let through, and those scaled a hundredfold are not."""
    expected = math.log(logits.shape[1])
    check_first_loss(F.cross_entropy(logits, targets, label_smoothing=0.1).item(), expected, network)
    if logits.std() > 0.03:  # a pretrained head without pretrained weights gives hardly any
        with pytest.raises(TrainingError, match="the first loss is"):
            check_first_loss(-(100 * logits).log_softmax(dim=1).mean().item(), expected, network)  # of all labels alike
    else:
        assert CLASSIFIERS[name] is CLASSIFIERS["pretrained"]


def test_every_architecture_is_tested_here() -> None:
    assert {architecture["name"] for architecture, _ in shipped_classifiers().values()} == set(CLASSIFIERS)
    assert {architecture["name"] for architecture in shipped_captioners().values()} == set(CAPTIONERS)


@pytest.mark.parametrize("experiment", shipped_classifiers())
def test_every_seed_of_a_shipped_classifier_may_train(experiment: str) -> None:
    settings, num_classes = shipped_classifiers()[experiment]
    architecture = Architecture(**settings)
    labels = torch.randint(num_classes, (BATCH_SIZE,), generator=torch.Generator().manual_seed(1))
    side = 32 if architecture.name == "resnet18" else IMAGE_SIZE  # it takes longest
    for seed in range(NUM_SEEDS):
        network = build_classifier(
            architecture, num_classes=num_classes, image_size=side, seed=seed, key="architecture"
        )
        with torch.no_grad():
            logits = network.train()(pictures(side))
        require_check(logits, labels, network, name=architecture.name)


@pytest.mark.parametrize("experiment", shipped_captioners())
def test_every_seed_of_a_shipped_captioner_may_train(experiment: str) -> None:
    architecture = Architecture(**shipped_captioners()[experiment])
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, VOCABULARY_SIZE, (BATCH_SIZE, LENGTH), generator=generator)
    for seed in range(NUM_SEEDS):
        captioner = build_captioner(
            architecture, vocabulary_size=VOCABULARY_SIZE, feature_size=FEATURE_SIZE, seed=seed, key="architecture"
        )
        shape = (BATCH_SIZE, FEATURE_SIZE) if captioner.looks_at == "pooled" else (BATCH_SIZE, NUM_PLACES, FEATURE_SIZE)
        with torch.no_grad():
            logits = captioner.train()(torch.randn(shape, generator=generator), tokens[:, :-1]).flatten(0, 1)
        require_check(logits, tokens[:, 1:].flatten(), captioner, name=architecture.name)


def test_a_head_of_another_width_is_noticed() -> None:
    """The loss of equal probabilities over 1,000 classes is 6.9, over 30 it is 3.4."""
    network = torch.nn.Linear(1, 1)
    for actual, expected in ((1000, 30), (30, 1000)):
        with pytest.raises(TrainingError, match=r"the first loss is .*, but an untrained network has about"):
            check_first_loss(math.log(actual), math.log(expected), network)


@pytest.mark.parametrize("shift", [-1, 1])
def test_shifted_labels_are_refused(shift: int) -> None:
    labels = torch.arange(30).numpy()
    check_labels(labels, 30, split="train")
    with pytest.raises(TrainingError, match=rf"labels of train go from {shift} to {29 + shift}: expected 0 to 29"):
        check_labels(labels + shift, 30, split="train")


def test_targets_must_be_the_next_tokens() -> None:
    tokens = torch.tensor([[1, 5, 6, 2, 0], [1, 7, 2, 0, 0]])
    check_next_tokens(tokens[:, :-1], tokens[:, 1:])
    for targets in (tokens[:, :-1], tokens[:, 1:].roll(1, dims=1), tokens[:, 1:].flip(0)):
        with pytest.raises(TrainingError, match="not the next tokens"):
            check_next_tokens(tokens[:, :-1], targets)
