"""Which stage instances there are, and a DVC that reads its files once and writes the same ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seesay.tracking.dvc_stages import read_instances

PIPELINE = """
stages:
  train: {foreach: '${models.image}', do: {cmd: "train ${key}"}}
  score: {foreach: [a, b], do: {cmd: "score ${item}"}}
  grid: {matrix: {x: [1, 2]}, cmd: "grid"}
  report: {cmd: report}
"""
LOCK = """
schema: '2.0'
stages:
  train@mlp: {cmd: train mlp}
  train@gone: {cmd: train gone}
  grid@1: {cmd: grid}
  report: {cmd: report}
"""


def test_instances_come_from_dvc_yaml_and_params_and_not_from_the_lock(tmp_path):
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "params.yaml").write_text("models: {image: {mlp: 1, cnn: 2}}")
    instances = read_instances(tmp_path)
    assert [i.address for i in instances] == ["train@mlp", "train@cnn", "score@a", "score@b", "grid@1", "report"]
    assert [i.address for i in instances if i.lock] == ["train@mlp", "grid@1", "report"]


def test_before_the_first_run_no_instance_has_a_lock(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {report: {cmd: report}}")
    assert [(i.address, i.lock) for i in read_instances(tmp_path)] == [("report", None)]


SHARED = """
base: &base {epochs: 2, rates: [0.1, 0.2]}
models: {mlp: {<<: *base}, cnn: {<<: *base, epochs: 4}, rnn: *base}
"""
TRAINING = """
stages:
  train:
    foreach: ${models}
    do:
      cmd: echo ${item.epochs} > ${key}
      params: ['models.${key}', base]
      outs: ['${key}']
  report: {cmd: cat mlp cnn rnn > report, deps: [mlp, cnn, rnn], outs: [report]}
"""
COUNTING = """
import collections, json, pathlib, sys
from dvc.utils import serialize, strictyaml
from dvc.utils.serialize import _yaml
from seesay.tracking import dvc_stages

parse, counts = _yaml.parse_yaml, collections.Counter()

def counting(text, path, typ="safe"):
    counts[f"{text.split(':')[0].strip()} {typ}"] += 1  # by the file's first key
    return parse(text, path, typ)

for module in (_yaml, serialize, strictyaml):
    module.parse_yaml = counting
status = dvc_stages.main()
pathlib.Path(".dvc/counts").write_text(json.dumps(counts))
sys.exit(status)
"""


def run(root: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=root, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def project(root: Path) -> Path:
    root.mkdir()
    run(root, "-m", "dvc", "init", "-q", "--no-scm")
    (root / "params.yaml").write_text(SHARED)
    (root / "dvc.yaml").write_text(TRAINING)
    return root


def change(root: Path) -> None:
    (root / "params.yaml").write_text(SHARED.replace("epochs: 4", "epochs: 5"))


def test_a_dvc_that_reads_files_once_writes_what_dvc_writes(tmp_path: Path) -> None:
    usual, once = (project(tmp_path / name) for name in ("usual", "once"))
    for changed in (None, change):
        for root, program in ((usual, ["-m", "dvc"]), (once, ["-c", COUNTING])):
            if changed:
                changed(root)
            said = run(root, *program, "repro")
            assert ("Running stage 'train@mlp'" in said) == (changed is None)
            assert "Running stage 'train@cnn'" in said
        assert (once / "dvc.lock").read_bytes() == (usual / "dvc.lock").read_bytes()
        counts = json.loads((once / ".dvc/counts").read_text())
        assert counts["base safe"] == 1
        assert "schema rt" not in counts
    assert "up to date" in run(usual, "-m", "seesay.tracking.dvc_stages", "repro")
    assert "up to date" in run(once, "-m", "dvc", "status")


def test_dvc_lock_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What was opened before a write is the old file to its end, and not a part of the new one."""
    root = project(tmp_path / "project")
    run(root, "-m", "seesay.tracking.dvc_stages", "repro")
    before = (root / "dvc.lock").read_bytes()
    (root / "opened").hardlink_to(root / "dvc.lock")
    change(root)
    run(root, "-m", "seesay.tracking.dvc_stages", "repro")
    assert (root / "dvc.lock").read_bytes() != before
    assert (root / "opened").read_bytes() == before


def test_a_list_of_users_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    """DVC writes it in place. Where an interruption cuts it off, DVC refuses every later run."""
    root = project(tmp_path / "project")
    users = root / ".dvc/tmp/rwlock"
    run(root, "-m", "seesay.tracking.dvc_stages", "repro")
    users.write_text("")
    (root / "opened").hardlink_to(users)
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=root, text=True, capture_output=True, check=False)
    assert "JSON structure is corrupted" in done.stderr
    change(root)
    command = [sys.executable, "-m", "seesay.tracking.dvc_stages", "repro"]
    done = subprocess.run(command, cwd=root, text=True, capture_output=True, check=True)
    assert "Running stage 'train@cnn'" in done.stdout
    assert done.stderr.count(".dvc/tmp/rwlock was cut off while DVC wrote it, and is made anew\n") == 1
    assert json.loads(users.read_text()) == {}
    assert (root / "opened").read_bytes() == b""


def test_a_dvc_with_other_functions_is_left_as_it_is(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    without = """
import sys
from dvc.utils import strictyaml
from dvc.utils.serialize import _common
from seesay.tracking import dvc_stages
parse, dump = strictyaml.parse_yaml, _common._dump_data
strictyaml.parse_yaml = lambda *arguments, **options: parse(*arguments, **options)
_common._dump_data = lambda *arguments, **options: dump(*arguments, **options)
sys.exit(dvc_stages.main())
"""
    assert "Running stage 'report'" in run(root, "-c", without, "repro")


@pytest.mark.parametrize("text", ["stages: [", "stages: {train: {cmd: x, outz: [a]}}"])
def test_a_damaged_file_is_the_same_error(tmp_path: Path, text: str) -> None:
    root = project(tmp_path / "project")
    (root / "dvc.yaml").write_text(text)
    errors = [
        subprocess.run([sys.executable, "-m", name, "repro"], cwd=root, text=True, capture_output=True, check=False)
        for name in ("dvc", "seesay.tracking.dvc_stages")
    ]
    assert errors[0].returncode == errors[1].returncode != 0
    assert errors[0].stderr == errors[1].stderr
