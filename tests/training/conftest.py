"""A problem small enough to train on in a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.captioning.data.batches import references_of
from seesay.captioning.data.records import CaptionRecord, CaptionRecords, collect_records
from seesay.captioning.data.vocabulary import Vocabulary, build_vocabulary
from seesay.captioning.features.store import Features, FeaturesIndex
from seesay.captioning.networks.base import Captioner
from seesay.captioning.networks.registry import build_captioner
from seesay.captioning.training.fit import TrainingDataset, fit_captioner
from seesay.captioning.training.reward import SampleReward, ValidationScore
from seesay.compute import Compute, configure
from seesay.core.settings import validate
from seesay.images.packed import (
    ImageClass,
    ImageSplit,
    PackedImages,
    channel_statistics,
    dataset_digest,
    split_digest,
)
from seesay.params.captioning import CaptionerTraining
from seesay.params.training import AdamW, MovingAverage, Runtime, Schedule, Sgd, Training
from seesay.sources.provenance import SourceNote
from seesay.training.checkpoint import Checkpoint
from seesay.training.loop import Fit, Step, fit

NUM_BATCHES, BATCH_SIZE = 4, 8


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """Puts torch's process-wide settings back."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


@pytest.fixture
def compute() -> Compute:
    runtime = Runtime(device="cpu", precision="float32", num_threads=1, deterministic=True, compile=False)
    return configure(runtime)


@pytest.fixture
def training() -> Training:
    return Training(
        epochs=4,
        batch_size=BATCH_SIZE,
        optimizer=Sgd(name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        schedule=Schedule(decay="linear", warmup_fraction=0.25),
        moving_average=MovingAverage(decay=0.9, every_steps=2),
        max_gradient_norm=1.0,
        patience=None,
    )


@pytest.fixture
def adamw() -> AdamW:
    return AdamW(name="adamw", learning_rate=0.01, weight_decay=0.1, beta1=0.9, beta2=0.999)


@pytest.fixture
def noise() -> PackedImages:
    """Three classes of 16x16 noise, each brighter than the one before."""
    random = np.random.default_rng(0)

    def split(num_per_class: int, name: str) -> ImageSplit:
        labels = np.repeat(np.arange(3), num_per_class)
        pixels = random.integers(0, 90, size=(len(labels), 16, 16, 3)) + 60 * labels[:, None, None, None]
        return ImageSplit(pixels.astype(np.uint8), labels, tuple(f"{name}{i}" for i in range(len(labels))))

    splits = {"train": split(8, "train"), "val": split(4, "val"), "test": split(4, "test")}
    mean, std = channel_statistics(splits["train"].images)
    classes = tuple(ImageClass(f"n{i}", f"word {i}") for i in range(3))
    digest = dataset_digest(classes, {name: split_digest(part) for name, part in splits.items()})
    return PackedImages(
        **splits,
        classes=classes,
        image_size=16,
        channel_mean=mean,
        channel_std=std,
        name="noise",
        digest=digest,
        source=SourceNote("noise", ()),
    )


@dataclass
class Problem:
    """Three classes of 8x8 images, and a small network with batch norm and dropout."""

    images: Tensor
    labels: Tensor
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    fail_in_epoch: int | None = None

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 3)
        )

    def batches(self, epoch: int) -> list[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(epoch))
        return [(self.images[rows], self.labels[rows]) for rows in order.split(BATCH_SIZE)]

    def step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Step:
        images, labels = batch
        logits = model(images)
        return Step(F.cross_entropy(logits, labels), len(labels), {"top1": (logits.argmax(1) == labels).sum()})

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        assert not model.training
        return {"val/loss": float(F.cross_entropy(model(self.images), self.labels))}

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        if step == self.fail_in_epoch:
            raise KeyboardInterrupt
        self.logged.append((step, metrics))


@pytest.fixture
def problem() -> Problem:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(NUM_BATCHES * BATCH_SIZE) % 3
    images = torch.randn(len(labels), 3, 8, 8, generator=generator) + labels[:, None, None, None]
    return Problem(images, labels)


FitProblem = Callable[..., Fit]


@pytest.fixture
def fit_problem(problem: Problem, training: Training, compute: Compute) -> FitProblem:
    """`fit` on the problem; any argument can be another."""

    def run(model: nn.Module | None = None, *, resume: Path | None = None, **others: Any) -> Fit:
        arguments: dict[str, Any] = {
            "batches": problem.batches,
            "num_batches": NUM_BATCHES,
            "compute_step": problem.step,
            "evaluate": problem.evaluate,
            "expected_first_loss": None,
            "seed": 0,
            "compute": compute,
            "log": problem.log,
            "resume": resume,
        }
        settings = others.pop("training", training)
        return fit(model or problem.model(), settings, **{**arguments, **others})

    return run


EIGHT = (
    "a red ball lies on the grass",
    "two dogs run",
    "a child in a blue coat jumps over a puddle",
    "a boat",
    "the grass is high and the sky is grey",
    "two children play with a ball",
    "a dog jumps over the boat",
    "the sky",
)

LSTM = {
    "name": "lstm",
    "image_enters": "initial_state",
    "embedding_size": 24,
    "hidden_size": 48,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "tie_weights": False,
}


@dataclass
class EightCaptions:
    """Eight images with a caption each, in train and again, as other images, in val; features of 16 dimensions, and
    the same on a grid of four places."""

    captions: CaptionRecords
    vocabulary: Vocabulary
    features: Features
    compute: Compute
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    fail_in_epoch: int | None = None

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        if step == self.fail_in_epoch:
            raise KeyboardInterrupt
        self.logged.append((step, metrics))

    def settings(
        self, *, epochs: int = 60, batch_size: int = 4, patience: int | None = None, **changes: Any
    ) -> CaptionerTraining:
        values = {
            "datasets": ["eight"],
            "vocabulary": "eight",
            "features": ["eight_seen"],
            "start": "scratch",
            "max_caption_length": 20,
            "best_by": "loss",
            "training": {
                "epochs": epochs,
                "batch_size": batch_size,
                "optimizer": {"name": "adamw", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99},
                "schedule": {"decay": "constant"},
                "max_gradient_norm": 5.0,
                "patience": patience,
            },
            **changes,
            "architecture": {**LSTM, **changes.get("architecture", {})},
        }
        return validate(values, CaptionerTraining, where="test")

    def captioner(self, settings: CaptionerTraining) -> Captioner:
        return build_captioner(
            settings.architecture, vocabulary_size=len(self.vocabulary), feature_size=16, seed=0, key="architecture"
        )

    def train(self, settings: CaptionerTraining, *, captioner: Captioner | None = None, **others: Any) -> Checkpoint:
        arguments: dict[str, Any] = {
            "score": ValidationScore(references_of([self.captions], "val"), self.vocabulary),
            "reward": SampleReward(references_of([self.captions], "train"), self.vocabulary),
            "seed": 0,
            "compute": self.compute,
            "log": self.log,
            "resume": None,
        }
        learned = others.pop("learned", [TrainingDataset(self.captions, self.features)])
        captioner = captioner or self.captioner(settings)
        return fit_captioner(captioner, learned, self.vocabulary, settings, **{**arguments, **others})[0]


@pytest.fixture
def eight(compute: Compute) -> EightCaptions:
    records = [
        CaptionRecord(100 * number + image, f"{image}.png", "images.zip", split, (caption,), 8, 8)
        for number, split in enumerate(("train", "val"))
        for image, caption in enumerate(EIGHT)
    ]
    captions = collect_records("eight", records, SourceNote("eight", ()))
    grid = np.random.default_rng(0).normal(3, 2, (8, 4, 16)).astype(np.float16)
    grid = np.concatenate([grid, grid])
    pooled = grid[:, 0].copy()
    index = FeaturesIndex("e", "small_cnn", SourceNote("e", ()), {}, "eight", captions.digest, pooled.shape, ())
    features = Features(pooled, index, grid=grid)
    return EightCaptions(captions, build_vocabulary(captions, min_count=1), features, compute)
