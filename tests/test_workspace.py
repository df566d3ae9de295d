"""Workspaces: DVC repositories with commits of their own, whose errors name the files that people edit."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from seesay.workspace import commit_first_results, name_sources, prepare_workspace


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """A repository as small as they come."""
    main = tmp_path / "main"
    for name, text in {
        "params.yaml": "seed: 0\nclassifiers: {mlp: {}}\n", "dvc.yaml": "stages: {}\n", ".dvcignore": "",
        ".gitignore": "/models/\n", ".dvc/plots/history.json": "{}", "requirements.lock": "", "stages/check.py": "",
        "src/seesay/check.py": "", "params/small.yaml": "classifiers: {tiny: {}}\n",
        "params/small_gates.yaml": "rules: []\n",
    }.items():  # fmt: skip
        (main / name).parent.mkdir(parents=True, exist_ok=True)
        (main / name).write_text(text)
    return main


def prepare(main: Path) -> Path:
    workspace = main / ".work/small"
    params = main / "params"
    prepare_workspace(main, workspace, overrides=params / "small.yaml", gates=params / "small_gates.yaml")
    return workspace


def git(workspace: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=workspace, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
class TestCommits:
    def test_the_last_commit_is_the_state_before_the_last_change(
        self, main: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # no identity: commits are made all the same
        workspace = prepare(main)
        assert git(workspace, "log", "--format=%s").splitlines() == ["The pipeline and its parameters"]
        (workspace / "reports").mkdir()
        (workspace / "models").mkdir()
        (workspace / "models/0.pt").write_text("weights")
        (workspace / "reports/results.json").write_text("first")
        commit_first_results(workspace)
        assert git(workspace, "status", "--porcelain") == ""
        (workspace / "reports/results.json").write_text("second")
        commit_first_results(workspace)
        assert git(workspace, "show", "HEAD:reports/results.json") == "first"
        prepare(main)
        assert git(workspace, "show", "HEAD:reports/results.json") == "second"
        assert "models/0.pt" not in git(workspace, "ls-files")
        num_commits = len(git(workspace, "log", "--format=%s").splitlines())
        prepare(main)
        assert len(git(workspace, "log", "--format=%s").splitlines()) == num_commits

    def test_a_workspace_without_git_gets_it(self, main: Path) -> None:
        workspace = main / ".work/small"
        (workspace / ".dvc").mkdir(parents=True)
        (workspace / ".dvc/config").write_text("[core]\n    no_scm = True\n")
        prepare(main)
        assert "no_scm = false" in (workspace / ".dvc/config").read_text()
        assert git(workspace, "status", "--porcelain") == ""

    def test_its_runs_name_the_commit_of_the_code(self, main: Path) -> None:
        from seesay.tracking.environment import describe_git

        workspace = prepare(main)
        (main / ".dvc/config").write_text("")
        git(main, "init", "--quiet")
        git(main, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--allow-empty", "-m", "x")
        tags, _ = describe_git(workspace)
        assert (
            tags["git.commit"] == git(main, "rev-parse", "HEAD").strip() != git(workspace, "rev-parse", "HEAD").strip()
        )


def test_without_git_a_workspace_has_no_commits(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    workspace = prepare(main)
    commit_first_results(workspace)
    assert not (workspace / ".git").exists()
    assert "no_scm = true" in (workspace / ".dvc/config").read_text()


def test_messages_name_the_file_that_people_edit(main: Path) -> None:
    workspace = prepare(main)
    assert (
        (workspace / "params.yaml")
        .read_text()
        .startswith("# Written by seesay: edit params/small.yaml and params.yaml")
    )
    sources = {"main": main, "overrides": main / "params/small.yaml", "gates": main / "params/small_gates.yaml"}
    for message, expected in [
        (f"{workspace}/params.yaml: classifiers.tiny: wrong", "params/small.yaml: classifiers.tiny: wrong"),
        (f"{workspace}/params.yaml: seed: wrong", "params.yaml: seed: wrong"),
        ("seesay: error: params.yaml: classifiers: wrong", "seesay: error: params/small.yaml: classifiers: wrong"),
        (f"{workspace}/gates.yaml: rules: wrong", "params/small_gates.yaml: rules: wrong"),
        ("epoch 1/2: loss=1", "epoch 1/2: loss=1"),
    ]:
        assert name_sources(message, **sources) == expected
