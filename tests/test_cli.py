"""The command line: what it refuses, where it writes, how it exits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seesay.captioning.networks.recurrent import LSTMCaptioner
from seesay.check import check_architectures, check_workspace
from seesay.cli import main
from seesay.core.errors import InputError
from seesay.core.settings import read_yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The committed results, to be judged elsewhere."""
    for name in ("params.yaml", "gates.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("metrics", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("figures"))
    return tmp_path


def gates(root: Path, *rules: str) -> None:
    (root / "gates.yaml").write_text("baseline: null\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules))


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ('{metric: "evaluate_classifier/resnet9:test/top1", min: 0.1}', 0),
        ('{metric: "evaluate_classifier/resnet9:test/top1", min: 0.999}', 1),
        ('{metric: "evaluate_classifier/resnet9:test/nothing", min: 0.1}', 1),
    ],
)
def test_the_exit_status_of_gate_is_its_verdict(
    copy: Path, monkeypatch: pytest.MonkeyPatch, rule: str, status: int
) -> None:
    """The pipeline's own verdict stays as it was."""
    gates(copy, rule)
    before = (copy / "reports/gate.json").read_bytes()
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate"])
    assert ended.value.code == status
    assert json.loads((copy / ".work/gate.json").read_text())["passed"] is (status == 0)
    assert (copy / "reports/gate.json").read_bytes() == before


def test_a_baseline_that_cannot_be_read_is_no_verdict(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates(copy, '{metric: "evaluate_classifier/resnet9:test/top1", min: 0.1, max_drop: 0.1}')
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--baseline", "no-such-ref"])
    assert ended.value.code == 2


@pytest.mark.parametrize("rules", ["baseline: null\nrules: [{metric: nonsense, min: 1}]\n", "rules: [", None])
def test_rules_that_cannot_be_read_are_no_verdict(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rules: str | None
) -> None:
    (copy / "gates.yaml").unlink() if rules is None else (copy / "gates.yaml").write_text(rules)
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate"])
    assert ended.value.code == 2
    assert "gates.yaml" in capsys.readouterr().err


def test_check_accepts_what_is_committed_and_builds_every_network() -> None:
    check_architectures(check_workspace(ROOT))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: resnet9,", "name: vgg,", "classifiers.resnet9.architecture.name: got 'vgg'"),
        ("subset: tiny30", "subset: tiny31", "image_datasets.tiny30.subset: got 'tiny31': expected one of tiny10"),
        ("name: lstm,", "name: elman,", "learning.architecture.name: got 'elman'"),
        ("width: 32, latent_channels: 16", "width: 32, latent: 16", "autoencoders.conv.architecture.latent"),
        ("decoder_widths: [128, 64, 32]", "decoder_widths: [128, 64]", "residual.architecture: decoder_widths: got 2"),
        ("{patch_size: 8,", "{patch_size: 7,", "autoencoders.masked.masking.patch_size: got 7: expected a divisor of"),
        ("share: 0.25", "share: 0.001", "autoencoders.masked.masking.share: got 0.001: hides 0 of 64 patches"),
        ("momentum: 0.9,", "momentum: 0.0,", "nesterov needs a momentum above 0"),
    ],
)
def test_check_refuses_what_could_not_run(copy: Path, old: str, new: str, says: str) -> None:
    text = (copy / "params.yaml").read_text()
    assert old in text
    (copy / "params.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError) as error:
        check_architectures(check_workspace(copy))
    assert says in str(error.value)


def test_check_refuses_a_grid_captioner_on_features_without_a_grid(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LSTMCaptioner, "looks_at", "grid")
    check_architectures(check_workspace(copy))
    text = (copy / "params.yaml").read_text()
    assert "grid_size: 7" in text
    (copy / "params.yaml").write_text(text.replace("grid_size: 7", "grid_size: null"))
    with pytest.raises(InputError) as error:
        check_architectures(check_workspace(copy))
    assert str(error.value) == (
        "params.yaml: captioners.lstm_flickr8k.learning.features: got 'flickr8k_mobilenet_v2': "
        "expected features with a grid_size: architecture lstm looks at a grid"
    )


def test_outside_the_repository_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seesay.cli", "repro"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "SEESAY_TRACKING": "off"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("seesay: error: ")
    assert "params.yaml: no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_committed_lock_is_of_the_committed_metrics_and_params() -> None:
    """Results that were edited by hand, or not made by the committed parameters, are found out."""
    import hashlib

    stages = read_yaml(ROOT / "dvc.lock")["stages"]
    params = read_yaml(ROOT / "params.yaml")
    seen = 0
    for stage in stages.values():
        for out in stage.get("outs", []):
            if out["path"].startswith("metrics/") and Path(out["path"]).suffix:  # `empty` is an empty folder
                seen += 1
                assert hashlib.md5((ROOT / out["path"]).read_bytes(), usedforsecurity=False).hexdigest() == out["md5"]
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            here = params
            for part in key.split("."):
                here = here[part]
            assert here == value, key
    assert seen > 20


def test_an_empty_baseline_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--baseline "$REF"` with an unset variable must not pass for "as gates.yaml says"."""
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--baseline", ""])
    assert ended.value.code == 2
    assert "expected a git ref, got an empty text" in capsys.readouterr().err


def test_the_last_words_of_a_failed_repro_are_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("check_architectures", "check_workspace"):
        monkeypatch.setattr(f"seesay.check.{name}", lambda _: None)
    (tmp_path / "dvc.yaml").write_text("stages: {report: {cmd: exit 3}}\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["repro"])
    output, error = capfd.readouterr()
    assert ended.value.code != 0
    assert output.splitlines()[-1].startswith(("Running stage 'report'", "> exit 3"))
    assert error.splitlines()[-1].startswith("ERROR: failed to reproduce 'report'")
