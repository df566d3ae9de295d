import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from seesay.core.errors import InputError
from seesay.core.files import write_json, write_text
from seesay.core.paths import Paths
from seesay.core.settings import read_yaml
from seesay.report.gate import judge_workspace, verdict_markdown, write_verdict
from seesay.report.rules import read_gates

RULES = """
baseline: {baseline}
rules:
  - {{metric: "evaluate_classifier/resnet9:test/top1", min: 0.66, max_drop: 0.02}}
  - metric: "score_captions/lstm:test_shuffled/cider_d"
    below: {{metric: "score_captions/lstm:test/cider_d", by_share: 0.4}}
"""


@pytest.fixture
def workspace(tmp_path):
    """Two cells whose metrics pass: 0.70 top-1; CIDEr-D 0.35, shuffled 0.10."""
    write_text(tmp_path / "params.yaml", "classifiers: {resnet9: {}}\ncaptioners: {lstm: {}}\n")
    write_text(tmp_path / "gates.yaml", RULES.format(baseline="null"))
    write_classifier(tmp_path, 0.70)
    write_captioner(tmp_path, 0.35, 0.10)
    return tmp_path


def write_classifier(root, top1):
    write_json(Paths(root).metrics("evaluate_classifier", "resnet9"), {"test/top1": top1})


def write_captioner(root, cider_d, shuffled):
    path = Paths(root).metrics("score_captions", "lstm")
    write_json(path, {"test/cider_d": cider_d, "test_shuffled/cider_d": shuffled})


def git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(workspace):
    """The same, committed, with HEAD as baseline."""
    write_text(workspace / "gates.yaml", RULES.format(baseline="HEAD"))
    git(workspace, "init", "-q")
    git(workspace, "add", "-A")
    git(workspace, "commit", "-q", "-m", "results")
    return workspace


def test_good_metrics_pass_with_exit_code_0(workspace):
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 0
    assert verdict.passed
    assert verdict.num_failed == 0
    assert verdict.summary().startswith("The gate passed: 2 of 2 checks hold")


def test_a_lowered_metric_fails_with_exit_code_1_and_is_named(workspace):
    write_classifier(workspace, 0.65)
    verdict = judge_workspace(workspace)
    assert (verdict.exit_code, verdict.num_failed, verdict.passed) == (1, 1, False)
    assert "evaluate_classifier/resnet9:test/top1: 65 % is not at least 66 %" in verdict.summary()


def test_no_rules_fail_nothing(workspace):
    write_text(workspace / "gates.yaml", "baseline: null\nrules: []\n")
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 0
    assert "0 of 0 checks hold" in verdict.summary()


def test_a_metric_exactly_at_its_bound_passes(workspace):
    write_classifier(workspace, 0.66)
    assert judge_workspace(workspace).passed


def test_a_missing_metrics_file_fails(workspace):
    Paths(workspace).metrics("evaluate_classifier", "resnet9").unlink()
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 1
    assert "metrics/evaluate_classifier/resnet9.json: no such file" in verdict.summary()


def test_a_missing_key_fails(workspace):
    write_json(Paths(workspace).metrics("evaluate_classifier", "resnet9"), {"val/top1": 0.7})
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 1
    assert "has no 'test/top1'" in verdict.summary()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_fails(workspace, value):
    write_classifier(workspace, value)
    assert judge_workspace(workspace).exit_code == 1


@pytest.mark.parametrize("value", [None, "0.7", True, [0.7]])
def test_what_is_not_a_number_fails(workspace, value):
    write_classifier(workspace, value)
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 1
    assert "expected a number" in verdict.summary()


def test_a_broken_metrics_file_fails(workspace):
    write_text(Paths(workspace).metrics("evaluate_classifier", "resnet9"), '{"test/top1": 0.')
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 1
    assert "not valid JSON" in verdict.summary()


def test_the_files_of_a_cell_that_is_no_longer_in_params_do_not_count(workspace):
    write_text(workspace / "params.yaml", "classifiers: {other: {}}\ncaptioners: {lstm: {}}\n")
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 1
    assert "params.yaml has no classifiers.resnet9" in verdict.summary()


def test_one_metric_can_be_held_against_another(workspace):
    # 40 % below 0.35 is 0.21.
    write_captioner(workspace, 0.35, 0.21)
    assert judge_workspace(workspace).passed
    write_captioner(workspace, 0.35, 0.22)
    verdict = judge_workspace(workspace)
    assert verdict.exit_code == 1
    assert "0.22 is not 40 % or more below score_captions/lstm:test/cider_d (0.35)" in verdict.summary()


def test_a_relation_to_a_missing_metric_fails(workspace):
    write_json(Paths(workspace).metrics("score_captions", "lstm"), {"test_shuffled/cider_d": 0.1})
    assert judge_workspace(workspace).exit_code == 1


def test_above_by_nothing_means_strictly_more(workspace):
    other = '{metric: "score_captions/lstm:test_shuffled/cider_d", by: 0}'
    rule = f'{{metric: "score_captions/lstm:test/cider_d", above: {other}}}'
    write_text(workspace / "gates.yaml", f"baseline: null\nrules:\n  - {rule}\n")
    assert judge_workspace(workspace).passed
    write_captioner(workspace, 0.2, 0.2)
    assert judge_workspace(workspace).exit_code == 1


def test_a_drop_within_the_tolerance_passes_and_one_beyond_fails(repository):
    assert judge_workspace(repository).passed
    write_classifier(repository, 0.68)  # 0.70 at HEAD, 0.02 allowed
    assert judge_workspace(repository).passed
    write_classifier(repository, 0.679)
    verdict = judge_workspace(repository)
    assert verdict.exit_code == 1
    assert "67.9 % is not at most 2 points lower than the baseline (70 %)" in verdict.summary()


def test_a_metric_the_baseline_lacks_is_new_and_only_absolute_bounds_count(repository):
    git(repository, "rm", "-q", "--cached", "metrics/evaluate_classifier/resnet9.json")
    git(repository, "commit", "-q", "-m", "forget")
    verdict = judge_workspace(repository)
    assert verdict.passed
    assert [check.status for check in verdict.checks] == ["passed", "new", "passed"]
    write_classifier(repository, 0.5)
    assert judge_workspace(repository).exit_code == 1


def test_the_baseline_is_read_from_the_workspaces_folder_of_the_repository(repository):
    inner = repository / "inner"
    for name in ("params.yaml", "gates.yaml"):
        write_text(inner / name, (repository / name).read_text())
    write_classifier(inner, 0.67)  # worse than the outer workspace's 0.70, which is none of its business
    write_captioner(inner, 0.35, 0.1)
    verdict = judge_workspace(inner)
    assert verdict.passed
    assert "new" in [check.status for check in verdict.checks]


def test_the_baseline_can_be_named_on_the_command_line(repository):
    git(repository, "tag", "good")
    write_classifier(repository, 0.67)
    git(repository, "commit", "-qam", "worse")
    assert judge_workspace(repository).passed
    assert judge_workspace(repository, baseline="good").exit_code == 1


def test_an_unknown_ref_cannot_be_judged_and_exits_with_2(repository):
    verdict = judge_workspace(repository, baseline="no_such_ref")
    assert verdict.exit_code == 2
    assert not verdict.passed
    assert "git has no ref 'no_such_ref' here" in verdict.summary()


def test_outside_a_git_repository_a_baseline_cannot_be_judged(workspace, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.parent))
    verdict = judge_workspace(workspace, baseline="HEAD")
    assert verdict.exit_code == 2
    assert "not inside a git repository" in verdict.summary()


def test_a_failure_is_a_failure_even_where_the_baseline_cannot_be_read(repository):
    write_classifier(repository, 0.1)
    assert judge_workspace(repository, baseline="no_such_ref").exit_code == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('rules: [{metric: "a:b", min: 1}]', "baseline: missing"),
        ('baseline: null\nrules: [{metric: "a:b", least: 1}]', "rules.0.least: unknown key"),
        ('baseline: null\nrules: [{metric: "a:b", min: high}]', "rules.0.min: got 'high'"),
        ('baseline: null\nrules: [{metric: "a:b", min: .nan}]', "rules.0.min"),
        ('baseline: null\nrules: [{metric: "a:b"}]', "has no bound"),
        ('baseline: null\nrules: [{metric: "a:b", min: 2, max: 1}]', "min 2.0 is more than max 1.0"),
        ('baseline: null\nrules: [{metric: "accuracy", min: 1}]', "rules.0.metric: got 'accuracy'"),
        ('baseline: null\nrules: [{metric: "a:b", above: {metric: "a:c"}}]', "either by or by_share, got neither"),
        ("baseline: null", "rules: missing"),
        ("baseline: --help\nrules: [{metric: 'a:b', min: 1}]", "baseline: got '--help'"),
    ],
)
def test_wrong_rules_are_refused_by_name(tmp_path, text, named):
    write_text(tmp_path / "gates.yaml", text)
    with pytest.raises(InputError, match=r"gates\.yaml") as caught:
        read_gates(tmp_path / "gates.yaml")
    assert named in str(caught.value)


def test_the_verdict_files_name_every_check_and_are_the_same_each_time(repository):
    paths = Paths(repository)
    write_classifier(repository, math.nan)
    write_verdict(judge_workspace(repository), json_path=paths.gate, markdown_path=paths.verdict)
    first = paths.gate.read_bytes()
    content = json.loads(first, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert (content["passed"], content["exit_code"], content["num_failed"]) == (False, 1, 2)
    assert [check["status"] for check in content["checks"]] == ["failed", "failed", "passed"]
    write_verdict(judge_workspace(repository), json_path=paths.gate, markdown_path=paths.verdict)
    assert paths.gate.read_bytes() == first
    assert "| ❌ **fail** | `evaluate_classifier/resnet9:test/top1` |" in paths.verdict.read_text()


def test_the_markdown_puts_failures_first(workspace):
    write_captioner(workspace, 0.1, 0.1)
    text = verdict_markdown(judge_workspace(workspace))
    assert text.startswith("## Gate failed\n")
    assert text.index("test_shuffled/cider_d` |") < text.index("resnet9:test/top1` |")


def test_a_pull_request_that_lowers_a_metric_fails_as_in_ci(repository):
    """The workflow's own commands fail, and its comment says which metric is lower and by how much."""
    workflow = YAML(typ="safe").load(Path(__file__).parents[2] / ".github/workflows/ci.yml")
    steps = {
        step["name"]: step["run"] for step in workflow["jobs"]["gate"]["steps"] if "name" in step and "run" in step
    }
    git(repository, "branch", "base")
    write_classifier(repository, 0.67)
    git(repository, "commit", "-q", "-a", "-m", "a worse classifier")
    names = ("Judge the committed metrics", "List what moved beyond noise", "Show the verdict")
    commands = [steps[name].replace(".venv/bin/seesay", f"{sys.executable} -m seesay.cli") for name in names]
    environment = {**os.environ, "GITHUB_STEP_SUMMARY": "summary.md", "BASE": "base"}
    statuses = [
        subprocess.run(
            ["bash", "-e", "-c", command], cwd=repository, env=environment, capture_output=True, check=False
        ).returncode
        for command in commands
    ]
    assert statuses == [1, 0, 0]
    summary = (repository / "summary.md").read_text()
    assert " → workspace" in summary
    assert "## Gate failed" in summary
    row = "| ❌ **fail** | `evaluate_classifier/resnet9:test/top1` | 67 % | at most 2 points lower than the baseline"
    assert f"{row} (70 %); missed by 1 point |" in summary


@pytest.mark.parametrize(("params", "gates"), [("params", "gates"), ("params/demo", "params/demo_gates")])
def test_what_is_released_must_beat_the_nearest_images_caption(params, gates):
    """A constant caption, the lower floor, is far worse. The captioner that learned by reward is released."""
    root = Path(__file__).parents[2]
    rules = read_gates(root / f"{gates}.yaml").rules
    released = read_yaml(root / f"{params}.yaml")["release"]["captioners"]
    assert [name for name in released if "_reward_" in name] == released
    for name in released:
        metric, floor = (f"score_captions/{name}:{key}/cider_d" for key in ("test", "floor_nearest"))
        assert [rule for rule in rules if rule.metric == metric and rule.above and rule.above.metric == floor]
