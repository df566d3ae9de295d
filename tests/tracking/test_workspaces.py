"""Which repository a workspace's runs go to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from seesay.core.settings import parse_yaml
from seesay.tracking import environment, store
from seesay.tracking.environment import describe_git, find_main_repository, workspace_name
from seesay.tracking.store import locate_store, read_prefix


@pytest.mark.parametrize("inside", [".dvc/tmp/exps/tmpabc", ".work/demo", ".work/demo/.dvc/tmp/exps/x"])
def test_copies_inside_a_repository_use_its_store(tmp_path, inside):
    main = tmp_path / "main"
    (main / ".dvc").mkdir(parents=True)
    workspace = main / inside
    workspace.mkdir(parents=True)
    assert find_main_repository(workspace) == main
    assert workspace_name(workspace) == inside
    assert workspace_name(main) == "."


def test_a_repository_that_lies_in_a_folder_of_that_name_is_its_own(tmp_path):
    main = tmp_path / ".work/seesay"
    (main / ".dvc").mkdir(parents=True)
    assert find_main_repository(main) == main


def test_the_store_is_sqlite_unless_the_environment_names_another(tmp_path, monkeypatch):
    """It lies in the repository."""
    assert locate_store(tmp_path).uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert locate_store(tmp_path).uri == "http://localhost:5000"
    assert locate_store(tmp_path).folder is None


@pytest.mark.parametrize("text", ["", "tracking: 3", "tracking: {experiment_prefix: 5}", "a: [", "- 1"])
def test_params_that_cannot_be_read_do_not_break_recording(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    assert read_prefix(tmp_path) == ""


def test_params_are_parsed_once_and_again_after_an_edit(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(store, "parse_yaml", lambda text, path: parsed.append(text) or parse_yaml(text, path))
    texts = [f"tracking: {{experiment_prefix: {prefix}-once}}" for prefix in ("first", "second")]
    for text, prefix in zip(texts, ("first-once", "second-once"), strict=True):
        (tmp_path / "params.yaml").write_text(text)
        assert [read_prefix(tmp_path) for _ in range(2)] == [prefix, prefix]
    assert parsed == texts


def git(root: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=root, check=True, capture_output=True)


def commit_all(root: Path) -> None:
    """Make a repository with one commit of all files."""
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")


def test_the_difference_from_the_commit_holds_no_credentials(tmp_path):
    """A password in DVC's settings, or in a URL that was just typed into params.yaml, reaches no record."""
    config, params = tmp_path / ".dvc/config", tmp_path / "params.yaml"
    config.parent.mkdir()
    config.write_text("[core]\n")
    params.write_text("url: none\n")
    commit_all(tmp_path)
    config.write_text("[core]\n['remote \"s3\"']\n    secret_access_key = first-s3cret\n")
    assert describe_git(tmp_path)[0]["git.dirty"] == "false"
    params.write_text("url: https://someone:second-s3cret@example.org/data.zip?token=third-s3cret\nkey: what?a=b\n")
    tags, changes = describe_git(tmp_path)
    assert tags["git.dirty"] == "true"
    assert "+url: https://example.org/data.zip\n+key: what?a=b\n" in changes
    assert "s3cret" not in changes


def test_a_workspace_inside_a_repository_records_no_credentials_either(tmp_path):
    """As `dvc init --subdir` makes one: what the pipeline writes is no change of code, wherever git's top folder is."""
    root = tmp_path / "ml"
    for name in (".dvc/config", "other/.dvc/config", "metrics/a.json", "params.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("start\n")
    commit_all(tmp_path)
    for name in (".dvc/config", "other/.dvc/config"):
        (root / name).write_text("secret_access_key = s3cret\n")
    (root / "metrics/a.json").write_text("{}")
    tags, changes = describe_git(root)
    assert (tags["git.dirty"], changes) == ("false", "")
    (root / "params.yaml").write_text("seed: 1\n")
    tags, changes = describe_git(root)
    assert tags["git.dirty"] == "true"
    assert "+seed: 1" in changes
    assert "s3cret" not in changes


def test_a_difference_that_is_cut_within_a_url_holds_no_credentials(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("url: none\n")
    commit_all(tmp_path)
    (tmp_path / "params.yaml").write_text("url: https://someone:s3cret@example.org/data.zip\n")
    whole = describe_git(tmp_path)[1]
    monkeypatch.setattr(environment, "MAX_DIFF", whole.index("example.org") + len("someone:s3cret"))
    changes = describe_git(tmp_path)[1]
    assert "s3cret" not in changes
    assert f"[cut: {len(whole)} characters in all]" in changes


def test_the_difference_is_plain_whatever_git_is_set_to_show(tmp_path):
    (tmp_path / "code.py").write_text("old = 1\n")
    (tmp_path / ".gitattributes").write_text("*.py diff=shout\n")
    commit_all(tmp_path)
    (tmp_path / "code.py").write_text("new = 1\n")
    plain = describe_git(tmp_path)[1]
    assert plain.endswith("-old = 1\n+new = 1\n")
    for key, value in (("color.ui", "always"), ("diff.external", "true"), ("diff.shout.textconv", "tr a-z A-Z <")):
        git(tmp_path, "config", key, value)
    assert describe_git(tmp_path)[1] == plain


def test_a_new_file_counts_as_a_change_also_where_git_hides_it(tmp_path):
    (tmp_path / "old.py").write_text("")
    commit_all(tmp_path)
    git(tmp_path, "config", "status.showUntrackedFiles", "no")
    assert describe_git(tmp_path)[0]["git.dirty"] == "false"
    (tmp_path / "new.py").write_text("")
    tags, changes = describe_git(tmp_path)
    assert tags["git.dirty"] == "true"
    assert "?? new.py" in changes


def test_a_repository_that_git_cannot_compare_counts_as_changed(tmp_path):
    (tmp_path / "code.py").write_text("")
    commit_all(tmp_path)
    (tmp_path / ".git/index").write_bytes(b"damaged")
    tags, changes = describe_git(tmp_path)
    assert tags["git.dirty"] == "true"
    assert "[git status failed]" in changes
