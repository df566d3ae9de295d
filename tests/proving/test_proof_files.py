"""Every architecture has a proof, and every proof shows its required properties."""

import json
from pathlib import Path

import pytest

from seesay.autoencoding.networks.registry import AUTOENCODERS
from seesay.captioning.networks.registry import CAPTIONERS
from seesay.classification.networks.registry import CLASSIFIERS
from seesay.params.classification import ENSEMBLE
from seesay.proving.cases import PROOFS, RECORDED

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "proofs").glob("*/*.json"))


def test_every_architecture_of_a_registry_has_a_proof() -> None:
    assert set(PROOFS["classifiers"]) == {*CLASSIFIERS, ENSEMBLE}
    assert set(PROOFS["autoencoders"]) == set(AUTOENCODERS)
    assert set(PROOFS["captioners"]) == {*CAPTIONERS, ENSEMBLE}
    assert set(PROOFS) == set(RECORDED)


def test_the_files_are_those_of_the_proofs() -> None:
    assert {(path.parent.name, path.stem) for path in FILES} == {
        (kind, name) for kind, proofs in PROOFS.items() for name in proofs
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_proof_is_small_and_holds_every_case(path: Path) -> None:
    assert path.stat().st_size < 15_000
    kind, proof = path.parent.name, PROOFS[path.parent.name][path.stem]
    assert set(json.loads(path.read_text())) == {cell for stage, cell in proof.steps if stage == RECORDED[kind]}


@pytest.mark.parametrize("kind", ["classifiers", "autoencoders", "captioners"])
def test_every_architecture_shows_patience_that_ends(kind: str) -> None:
    for name in set(PROOFS[kind]) - {"ensemble", "pca"}:
        cases = json.loads((ROOT / f"proofs/{kind}/{name}.json").read_text())
        entries = PROOFS[kind][name].params[kind]
        epochs = {cell: entries[cell].get("learning", entries[cell])["training"]["epochs"] for cell in cases}
        assert any(case["metrics"]["num_epochs"] < epochs[cell] for cell, case in cases.items()), name
