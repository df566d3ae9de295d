"""Which stage instances there are."""

from __future__ import annotations

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
