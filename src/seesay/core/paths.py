"""The paths of all artefacts, each defined once, below the root of a workspace: the folder of dvc.yaml.

A name from params.yaml becomes part of a path only if it is a plain word, so no path leads out of its folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from seesay.core.errors import InputError

NAME = r"[a-z][a-z0-9_]*"
"""The pattern of an experiment's name, which becomes a file name, a DVC stage name and an MLflow run name."""

_EMPTY = "empty"


@dataclass(frozen=True)
class Paths:
    root: Path

    # Files in the root
    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def gates(self) -> Path:
        return self.root / "gates.yaml"

    @property
    def pipeline(self) -> Path:
        return self.root / "dvc.yaml"

    @property
    def lock(self) -> Path:
        return self.root / "dvc.lock"

    # Data
    @property
    def checked(self) -> Path:
        """Written by the stage `check`, on which all others depend."""
        return self.root / "data/checked"

    def raw_images(self, source: str) -> Path:
        """Folder: an image source's archives and `source.json`."""
        return self.root / "data/raw/images" / checked_name(source)

    def raw_captions(self, source: str) -> Path:
        """Folder: a caption source's archives (or single images) and `source.json`."""
        return self.root / "data/raw/captions" / checked_name(source)

    def images(self, dataset: str) -> Path:
        """Folder: the packed splits of an image dataset and `manifest.json`."""
        return self.root / "data/images" / checked_name(dataset)

    def captions(self, dataset: str) -> Path:
        """Folder: `records.json` and `manifest.json` of a caption dataset."""
        return self.root / "data/captions" / checked_name(dataset)

    def vocabulary(self, name: str) -> Path:
        return self.root / "data/vocabularies" / f"{checked_name(name)}.json"

    def features(self, name: str) -> Path:
        """Folder: `pooled.npy`, `grid.npy` if the positions of the grid are kept, and `index.json`."""
        return self.root / "data/features" / checked_name(name)

    # Models
    def weights(self, name: str) -> Path:
        """Folder: fetched weights, `source.json`, and `encoder.json`, which names their network."""
        return self.root / "models/weights" / checked_name(name)

    def classifiers_of(self, cell: str) -> Path:
        """Folder: `0.pt`, `1.pt`, ...: one classifier per seed of the experiment."""
        return self.root / "models/classifiers" / checked_name(cell)

    def classifier(self, cell: str, index: int = 0) -> Path:
        return self.classifiers_of(cell) / f"{index}.pt"

    def autoencoder(self, cell: str) -> Path:
        return self.root / "models/autoencoders" / f"{checked_name(cell)}.pt"

    def empty_folders(self) -> tuple[Path, ...]:
        """The empty folders for stages whose dependency may not exist.

        Experiments that start from scratch depend on the first. Comparisons of an empty section depend on the others.
        """
        return (
            self.root / "models/scratch",
            self.autoencoder(_EMPTY).with_suffix(""),
            self.weights(_EMPTY),
            self.captioner_of(_EMPTY),
            self.raw_captions(_EMPTY),
            self.captions(_EMPTY),
            self.vocabulary(_EMPTY).with_suffix(""),
            self.features(_EMPTY),
            self.finetuned_encoder(_EMPTY),
            self.caption_predictions(_EMPTY).with_suffix(""),
            self.attention(_EMPTY),
            self.metrics("score_captions", _EMPTY).with_suffix(""),
        )

    def captioner_of(self, cell: str) -> Path:
        """Folder: `captioner.pt`. It is a folder because `models/scratch` is one."""
        return self.root / "models/captioners" / checked_name(cell)

    def captioner(self, cell: str) -> Path:
        return self.captioner_of(cell) / "captioner.pt"

    def finetuned_encoder(self, cell: str) -> Path:
        """Folder: an encoder's weights after fine-tuning with a captioner, and `origin.json`."""
        return self.root / "models/finetuned" / checked_name(cell)

    @property
    def release(self) -> Path:
        """The models released by `register`: one entry per registered model."""
        return self.root / "data/release.json"

    @property
    def released(self) -> Path:
        """Folder: the bundle of each released model, by its name in the registry."""
        return self.root / "models/released"

    # Predictions
    def attention(self, cell: str) -> Path:
        """Folder: `attention.json` and, if the captioner attends to a grid, `weights.npy`."""
        return self.root / "data/attention" / checked_name(cell)

    def class_predictions(self, cell: str) -> Path:
        return self.root / "data/predictions/classifiers" / f"{checked_name(cell)}.npz"

    def caption_predictions(self, cell: str) -> Path:
        return self.root / "data/predictions/captioners" / f"{checked_name(cell)}.json"

    def image_scores(self, cell: str) -> Path:
        """A CSV: the scores of each test image's caption."""
        return self.root / "data/scores" / f"{checked_name(cell)}.csv"

    # Results: small files, in git
    def metrics(self, stage: str, cell: str | None = None) -> Path:
        """The flat JSON object of a stage's metrics."""
        return self.root / "metrics" / _named(stage, cell, ".json")

    def table(self, stage: str, cell: str | None, name: str) -> Path:
        """A CSV beside the metrics: `history` (per epoch), `per_class` or `confusion`."""
        return self.root / "metrics" / _named(stage, cell, f".{name}.csv")

    def data_report(self, stage: str, dataset: str) -> Path:
        """The nested JSON report on the contents of a dataset or a feature array."""
        return self.root / "data/reports" / _named(stage, dataset, ".json")

    @property
    def gate(self) -> Path:
        return self.root / "reports/gate.json"

    # Figures and views
    def figures(self, stage: str, cell: str | None = None) -> Path:
        """Folder: a stage's figures (`*.svg`, `*.png`, `*.webp`)."""
        return self.root / "reports/figures" / _named(stage, cell, "")

    @property
    def results_data(self) -> Path:
        """The rows of every results table, as collected by `report`."""
        return self.root / "reports/results.json"

    @property
    def report(self) -> Path:
        return self.root / "reports/index.html"

    @property
    def cost_figures(self) -> Path:
        """Figures of accuracy against cost: views, since they show how long trainings took."""
        return self.root / "reports/classifiers"

    @property
    def captions_page(self) -> Path:
        return self.root / "reports/captions.html"

    @property
    def results(self) -> Path:
        return self.root / "reports/results.md"

    @property
    def verdict(self) -> Path:
        return self.root / "reports/gate.md"

    # Records of runs and temporary state
    def run_record(self, stage: str, cell: str | None = None) -> Path:
        return self.root / "runs" / _named(stage, cell, ".json")

    @property
    def scratch(self) -> Path:
        """Folder: resumable state and locks, outside DVC's outputs and never in git."""
        return self.root / ".work"


def checked_name(name: str) -> str:
    """Return `name`; raise `InputError` unless it is a lower-case letter, then lower-case letters, digits and _."""
    if re.fullmatch(NAME, name) is None:
        raise InputError(
            f"got the name {name!r:.80}: expected a lower-case letter, then lower-case letters, digits and _"
        )
    return name


def cell_name(stage: str, cell: str | None) -> str:
    """Return DVC's name of a stage instance: `train_classifier@mlp`, or `report` for a stage without cells."""
    return stage if cell is None else f"{stage}@{cell}"


def _named(stage: str, cell: str | None, suffix: str) -> str:
    return f"{stage}{suffix}" if cell is None else f"{stage}/{checked_name(cell)}{suffix}"
