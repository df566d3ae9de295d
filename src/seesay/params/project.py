"""The whole of params.yaml."""

from __future__ import annotations

from pathlib import Path

from seesay.errors import InputError
from seesay.params.agreement import misfits
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner
from seesay.params.datasets import (
    CaptionDataset,
    CaptionSource,
    Encoder,
    Features,
    ImageDataset,
    ImageSource,
    Vocabulary,
)
from seesay.params.experiments import Classifier
from seesay.params.explaining import EncoderMaps
from seesay.params.finetuning import FinetunedEncoder
from seesay.params.reading import PARAMS_FILE, CellName, NaturalInt, Settings, read_yaml, validate
from seesay.params.results import Comparison, Evaluation, Release, Report, Tracking
from seesay.params.training import Runtime


class Params(Settings):
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
    encoders: dict[CellName, Encoder]
    features: dict[CellName, Features]
    captioners: dict[CellName, Captioner]
    finetuned_encoders: dict[CellName, FinetunedEncoder]
    evaluation: Evaluation
    encoder_maps: EncoderMaps
    comparison: Comparison
    report: Report
    release: Release


def load_params(root: Path) -> Params:
    """All of params.yaml; raises `InputError` that names every wrong key, or the first two keys that do not fit."""
    path = root / PARAMS_FILE
    params: Params = validate(read_yaml(path), Params, where=str(path))
    for key, value, expected in misfits(params):
        raise InputError(f"{path}: {key}: got {value!r}: expected {expected}")
    return params
