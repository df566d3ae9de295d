"""Tiny runs of a proof: the real stages, run in a temporary workspace."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from ruamel.yaml import YAML

from seesay.core.paths import Paths
from seesay.params.classification import Architecture
from seesay.proving import tiny_data
from seesay.proving.cases import COMMON, PROOFS, RECORDED, Proof
from seesay.proving.numbers import numbers_of


def run_proof(kind: str, name: str, *, stages: Path) -> dict[str, Any]:
    """Return the numbers of each case of the proof `name` of `kind`, computed by the scripts in the folder `stages`."""
    proof = PROOFS[kind][name]
    cases = {}
    with TemporaryDirectory() as folder, untracked():
        root = Path(folder)
        prepare(root, proof)
        for stage, cell in proof.steps:
            with (root / "log").open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
                load_stage(stages / f"{stage}.py").main(cell, root)
            if stage == RECORDED[kind]:
                cases[cell] = numbers_of(root, stage, cell)
    return cases


def prepare(root: Path, proof: Proof) -> None:
    """Write params.yaml and all data that the steps of `proof` start from."""
    paths = Paths(root)
    with paths.params.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump({**COMMON, **proof.params}, file)
    images = tiny_data.write_images(paths, "tiny")
    tiny_data.write_images(paths, "misleading", val_shift=1)
    tiny_data.write_images(paths, "uneven", num_of_last=3)
    for cell, architecture in proof.classifiers.items():
        tiny_data.write_classifier(paths, cell, Architecture(**architecture), images)
    for network in proof.weights:
        tiny_data.write_weights(paths, network)
    if {"features", "captioners"} & set(proof.params):
        dots, lines = (tiny_data.write_captions(paths, name) for name in ("dots", "lines"))
        tiny_data.write_vocabularies(paths, dots, lines)
        for captions in (dots, lines):
            tiny_data.write_random_features(paths, captions.name, captions)
        tiny_data.write_random_features(paths, "dots_views", dots, num_views=2)
        for cell, made_of in proof.finetuned.items():
            tiny_data.write_finetuned_encoder(paths, cell, made_of, dots)


@contextlib.contextmanager
def untracked() -> Iterator[None]:
    """Turn tracking off: the runs of a proof are not runs of the pipeline, and are not recorded in MLflow."""
    before = os.environ.get("SEESAY_TRACKING")
    os.environ["SEESAY_TRACKING"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SEESAY_TRACKING"]
        else:
            os.environ["SEESAY_TRACKING"] = before


def load_stage(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stage_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
