"""The complete params.yaml."""

from __future__ import annotations

from seesay.core.settings import CellName, NaturalInt, Settings
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner, FinetunedEncoder
from seesay.params.classification import Classifier
from seesay.params.datasets import (
    CaptionDataset,
    CaptionSource,
    Features,
    ImageDataset,
    ImageSource,
    Vocabulary,
    Weights,
)
from seesay.params.results import Comparison, EncoderMaps, Evaluation, Release, Report, Tracking
from seesay.params.training import Runtime


class Params(Settings):
    """All sections. A section that a workspace does not use is present but empty: DVC has no optional sections."""

    seed: NaturalInt
    runtime: Runtime
    tracking: Tracking
    image_sources: dict[CellName, ImageSource]
    image_datasets: dict[CellName, ImageDataset]
    classifiers: dict[CellName, Classifier]
    autoencoders: dict[CellName, Autoencoder]
    caption_sources: dict[CellName, CaptionSource]
    caption_datasets: dict[CellName, CaptionDataset]
    vocabularies: dict[CellName, Vocabulary]
    weights: dict[CellName, Weights]
    features: dict[CellName, Features]
    captioners: dict[CellName, Captioner]
    finetuned: dict[CellName, FinetunedEncoder]
    evaluation: Evaluation
    encoder_maps: EncoderMaps
    comparison: Comparison
    report: Report
    release: Release
