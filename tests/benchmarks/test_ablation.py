"""The comparison of changes of one classifier: what a change is, the table, and going on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from seesay.core.errors import InputError
from seesay.proving.cases import ADAMW, CONSTANT, MLP, Proof
from seesay.proving.running import load_stage, prepare

TRAINING = {"epochs": 2, "batch_size": 8, "optimizer": ADAMW, "schedule": CONSTANT}
ENTRY = {"dataset": "tiny", "start": "scratch", "architecture": MLP, "training": TRAINING, "seeds": [5, 6]}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_stage(Path(__file__).parents[2] / "benchmarks/ablation.py")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    prepare(tmp_path, Proof({"classifiers": {"small": ENTRY}}, ()))
    return tmp_path


def test_a_change_sets_adds_and_removes_keys(benchmark: ModuleType) -> None:
    entry = {"architecture": {"name": "mlp", "dropout": 0.2}, "training": {"epochs": 2}}
    found = benchmark.changed(entry, "architecture.dropout=null,training.epochs=3,training.lookahead.pull=0.5")
    assert found == {"architecture": {"name": "mlp"}, "training": {"epochs": 3, "lookahead": {"pull": 0.5}}}
    assert entry["training"] == {"epochs": 2}


@pytest.mark.parametrize("change", ["training.epochs", "=3", "training.epochs.more=3", "training.epochs=[3"])
def test_what_is_no_assignment_is_refused(benchmark: ModuleType, change: str) -> None:
    with pytest.raises(InputError, match=r"expected|has no keys"):
        benchmark.changed({"training": {"epochs": 2}}, change)


def test_variants_differ_from_the_entry_and_a_stopped_run_goes_on(
    benchmark: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = workspace / "out.json"
    arguments = ["small", "--change", "training.epochs=1", "--out", str(out)]
    benchmark.main(workspace, [*arguments, "--seeds", "0"])
    first = json.loads(out.read_text())["variants"]
    assert [first[name]["0"]["epochs"] for name in ("unchanged", "training.epochs=1")] == [2, 1]
    assert first["unchanged"]["0"]["val_loss"] != first["training.epochs=1"]["0"]["val_loss"]
    capsys.readouterr()
    benchmark.main(workspace, [*arguments, "--seeds", "0", "1"])
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if ", seed " in line]) == 2  # those of the second seed
    assert said[-2].startswith("| unchanged | 2 | 2 |")
    assert said[-1].startswith("| training.epochs=1 | 2 | 1 |")
    with pytest.raises(InputError, match="has results of another entry"):
        benchmark.main(workspace, [*arguments, "--always", "label_smoothing=0.3"])


def test_differences_are_paired_by_seed(benchmark: ModuleType) -> None:
    def runs(*scores: float) -> dict[str, dict[str, float]]:
        others = {"val_loss": 1.0, "train_top1": 0.5, "epochs": 8.0, "core_minutes": 3.0}
        return {str(seed): {"val_top1": score, **others} for seed, score in enumerate(scores)}

    lines = benchmark.table({"unchanged": runs(0.60, 0.70), "dirac": runs(0.61, 0.71)})
    assert lines[2:] == [
        "| unchanged | 2 | 8 | 65.0 ± 7.1 | – | 1.000 | 50.0 | 3.0 |",
        "| dirac | 2 | 8 | 66.0 ± 7.1 | +1.0 ± 0.0 | 1.000 | 50.0 | 3.0 |",
    ]


def test_an_unknown_key_is_named_with_its_variant(benchmark: ModuleType, workspace: Path) -> None:
    with pytest.raises(InputError, match=r"classifiers\.small with training\.epoch=3: training\.epoch: unknown key"):
        benchmark.main(workspace, ["small", "--change", "training.epoch=3"])
