"""What the recorder writes, with MLflow left out."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.params.captioning import Beam
from seesay.sources.provenance import SourceFile, SourceNote
from seesay.tracking.recorder import record_stage
from seesay.tracking.records import flatten, read_record

SOURCE = SourceNote("drawn", (SourceFile("a.zip", "generated:scenes", "0" * 64, 3, "", is_substitute=True),))


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEESAY_TRACKING", "off")


def test_the_history_has_a_row_per_step(tmp_path):
    """A cell is empty where nothing was logged."""
    with record_stage(tmp_path, "train_classifier", "mlp", params={}) as log:
        log({"train/loss": 2.0}, step=1)
        log({"train/loss": 0.1, "val/top1": 0.25}, step=2)
    text = (tmp_path / "metrics/train_classifier/mlp.history.csv").read_text()
    assert text == "step,train/loss,val/top1\n1,2.0,\n2,0.1,0.25\n"


def test_the_metrics_file_holds_the_summary_and_no_measurement(tmp_path):
    with record_stage(tmp_path, "build_vocabulary", "coco", params={}) as log:
        log.summary({"num_tokens": 7})
        log.summary({"val/rate": 0.5})
        log.measurement({"seconds": 1.25})
    text = (tmp_path / "metrics/build_vocabulary/coco.json").read_text()
    assert text == '{\n  "num_tokens": 7,\n  "val/rate": 0.5\n}\n'
    measured = read_record(tmp_path / "runs/build_vocabulary/coco.json").measurements
    assert measured.keys() == {"seconds", "peak_memory_gb"}
    assert measured["seconds"] == 1.25
    assert 0.01 < measured["peak_memory_gb"] < 100


def test_nan_stays_nan_in_the_metrics_file_and_the_record(tmp_path):
    with record_stage(tmp_path, "score_captions", "lstm", params={}) as log:
        log.summary({"test/cider_d": float("nan")})
    assert math.isnan(json.loads((tmp_path / "metrics/score_captions/lstm.json").read_text())["test/cider_d"])
    assert math.isnan(read_record(tmp_path / "runs/score_captions/lstm.json").summary["test/cider_d"])


def test_a_stage_without_results_writes_its_record_only(tmp_path):
    with record_stage(tmp_path, "report", params={}):
        pass
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == ["runs/report.json"]


def test_an_exception_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="nan"), record_stage(tmp_path, "train_classifier", "mlp", params={}) as log:
        log({"train/loss": 1.0}, step=1)
        log.summary({"val/top1": 1.0})
        raise ValueError("the loss is nan")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_full_disk_leaves_no_part_of_the_results(tmp_path, monkeypatch):
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seesay.tracking.recorder.write_record", fail)
    with pytest.raises(OSError, match="No space"), record_stage(tmp_path, "evaluate", params={}) as log:
        log.summary({"test/top1": 1.0})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_record_says_what_was_read_and_made(tmp_path):
    figures = tmp_path / "reports/figures/train_classifier/mlp"
    figures.mkdir(parents=True)
    (figures / "curves.svg").write_text("<svg/>")
    weights = tmp_path / "models/classifiers/mlp/0.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    with record_stage(tmp_path, "train_classifier", "mlp", params={"a": {"b": 1}}, seed=3) as log:
        log.dataset("tiny", digest="d" * 64, context="training", source=SOURCE)
        log.artifact(figures)
        log.model(weights)
    record = read_record(tmp_path / "runs/train_classifier/mlp.json")
    assert (record.params, record.seed, record.status, record.run_id) == ({"a.b": 1}, 3, "FINISHED", None)
    assert [(a.path, a.folder) for a in record.artifacts] == [
        ("reports/figures/train_classifier/mlp/curves.svg", "figures")
    ]
    assert [m.sha256 for m in record.models] == [_sha256(b"weights")]
    assert record.datasets[0].substitutes == ["a.zip"]
    assert record.started_ms <= record.ended_ms
    assert record.environment["python"]


def test_outputs_on_another_disk_are_recorded_as_they_are_named(tmp_path):
    """The folder data/ of a workspace may be a link, and DVC's cache may link single files."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "cached").write_bytes(b"{}")
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "disk")
    report = Paths(root).data_report("prepare_images", "tiny")
    report.parent.mkdir(parents=True)
    report.symlink_to(tmp_path / "cached")
    with record_stage(root, "prepare_images", "tiny", params={}) as log:
        log.artifact(report)
        log.artifact(root / "data")
    artifacts = read_record(root / "runs/prepare_images/tiny.json").artifacts
    assert {a.path for a in artifacts} == {"data/reports/prepare_images/tiny.json"}
    assert {a.sha256 for a in artifacts} == {_sha256(b"{}")}


def test_parameters_become_flat_keys():
    decoding = Beam(method="beam", beam_size=5, length_penalty=0.7, max_length=24, batch_size=100)
    assert flatten({"d": decoding, "widths": (1, 2), "none": None, "archives": [{"url": "u"}]}) == {
        "d.method": "beam",
        "d.beam_size": 5,
        "d.length_penalty": 0.7,
        "d.max_length": 24,
        "d.batch_size": 100,
        "d.rerank": None,
        "widths": "[1, 2]",
        "none": None,
        "archives.0.url": "u",
    }


def test_scratch_is_the_same_for_the_same_inputs_and_another_for_others(tmp_path):
    folders = []
    for rate, digest in [(0.1, "a"), (0.1, "a"), (0.2, "a"), (0.1, "b")]:
        with record_stage(tmp_path, "train_classifier", "mlp", params={"rate": rate}) as log:
            log.dataset("tiny", digest=digest, context="training", source=SOURCE)
            folders.append(log.scratch)
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    assert folders[0].parent == tmp_path / ".work"


def test_scratch_outlives_a_failure_and_not_a_success(tmp_path):
    def run(*, fails: bool) -> Path:
        with record_stage(tmp_path, "train_classifier", "mlp", params={}) as log:
            log.scratch.mkdir(parents=True, exist_ok=True)
            scratch = log.scratch
            if fails:
                raise KeyError
        return scratch

    with pytest.raises(KeyError):
        run(fails=True)
    (scratch,) = (tmp_path / ".work").iterdir()
    assert run(fails=False) == scratch
    assert not scratch.exists()


def test_a_record_of_another_schema_is_refused(tmp_path):
    with record_stage(tmp_path, "report", params={}):
        pass
    path = tmp_path / "runs/report.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(InputError, match="schema: got 99: expected 1"):
        read_record(path)


def test_importing_the_recorder_imports_neither_torch_nor_mlflow_nor_dvc():
    code = "import sys, seesay.tracking.recorder; print([m for m in ('torch', 'mlflow', 'dvc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_run_with_test_scores_has_the_parameters_of_its_experiment(tmp_path, monkeypatch):
    """A parameter of its own wins; a stage that measures nothing has only its own."""
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    with record_stage(tmp_path, "train_classifier", "mlp", params={"training": {"rate": 0.1}, "size": 1}):
        pass
    for stage in ("evaluate_classifier", "explain_classifier"):
        with record_stage(tmp_path, stage, "mlp", params={"size": 2}):
            pass
    measured, explained = (
        read_record(tmp_path / f"runs/{stage}_classifier/mlp.json") for stage in ("evaluate", "explain")
    )
    assert measured.params == {"training.rate": 0.1, "size": 2}
    assert explained.params == {"size": 2}
    assert (measured.run_name, explained.run_name) == ("evaluate mlp", "explain mlp")
